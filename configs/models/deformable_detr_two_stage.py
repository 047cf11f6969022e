"""Deformable DETR whose queries start at the best boxes that the encoder proposes."""

from detectron2.config import LazyCall as L

from smca.modeling.deformable import ProposalQueries

from .deformable_detr_refine import model

model.decoder.queries = L(ProposalQueries)(
    num_queries="${..num_queries}",
    embed_dim="${..embed_dim}",
    num_classes="${...num_classes}",
    classification="${...classification}",
    base_side=0.05,
)
# Boxes have a size from the start.
model.decoder.refinement.initial_size = 0.0
