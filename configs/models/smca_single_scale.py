"""Single-scale SMCA: DETR with a multi-head spatial prior of independent width and height."""

from detectron2.config import LazyCall as L

from smca.modeling import SpatialModulation

from .detr import model

model.decoder.modulation = L(SpatialModulation)(
    embed_dim="${..embed_dim}",
    num_heads="${..num_heads}",
    num_layers="${..num_layers}",
    num_levels="${..num_levels}",
    per_head=True,
    scale="independent",
    scale_selection=False,
    beta=8.0,
)
