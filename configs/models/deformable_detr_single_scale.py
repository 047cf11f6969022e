"""Deformable DETR with one level at stride 32, as released."""

from detectron2.config import LazyCall as L

from smca.modeling import DecoderLayer
from smca.modeling.deformable import (
    ContentQueries,
    DeformableCoAttention,
    DeformableEncoder,
    DeformableHeads,
    ReferenceSampling,
)

from .detr import model

model.neck.num_groups = 32
model.neck.level_embedding = True
# Coordinates of the sine code in the middle of the cells.
model.neck.position_shift = -0.5
model.neck.xavier = True
# In raw_outputs, and with model.isolate_images=False.
model.neck.see_padding = True
model.encoder = L(DeformableEncoder)(
    num_layers=6,
    embed_dim="${..neck.embed_dim}",
    num_heads=8,
    ffn_dim=1024,
    dropout=0.1,
    num_levels=1,
    num_points=4,
    activation_checkpointing=False,
)
model.decoder.queries = L(ContentQueries)(
    num_queries="${..num_queries}", embed_dim="${..embed_dim}"
)
model.decoder.modulation = L(ReferenceSampling)()
model.decoder.layer = L(DecoderLayer)(
    embed_dim="${..embed_dim}",
    num_heads="${..num_heads}",
    ffn_dim="${..ffn_dim}",
    dropout="${..dropout}",
    co_attention=L(DeformableCoAttention)(
        embed_dim="${..embed_dim}",
        num_heads="${..num_heads}",
        num_levels="${...num_levels}",
        num_points="${....encoder.num_points}",
    ),
)
model.decoder.output_norm = False
model.heads._target_ = DeformableHeads
model.heads.update(num_layers="${..decoder.num_layers}", share_layers=True, initial_size=-2.0)
