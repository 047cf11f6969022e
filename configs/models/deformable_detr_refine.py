"""Deformable DETR whose layers refine boxes one after the other, each with heads of its own."""

from detectron2.config import LazyCall as L

from smca.modeling.plus import BoxRefinement

from .deformable_detr import model

model.decoder.refinement = L(BoxRefinement)(
    embed_dim="${..embed_dim}",
    num_layers="${..num_layers}",
    share_layers=False,
    look_forward_twice=False,
    initial_size=-2.0,
)
model.heads.share_layers = False
model.heads.predict_boxes = False
