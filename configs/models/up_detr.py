"""UP-DETR when it is fine-tuned: DETR as published, with norms before each part."""

from detectron2.config import LazyCall as L

from smca.modeling import DecoderLayer

from .detr_published import model

model.encoder.pre_norm = True
model.decoder.layer = L(DecoderLayer)(
    embed_dim="${..embed_dim}",
    num_heads="${..num_heads}",
    ffn_dim="${..ffn_dim}",
    dropout="${..dropout}",
    pre_norm=True,
)
