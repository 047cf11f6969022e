"""Full SMCA: strides 16, 32 and 64, intra- and multi-scale encoding, scale-selection attention."""

from .smca_single_scale import model

model.backbone.out_features = ["res4", "res5"]
model.neck.strides = [16, 32, 64]
model.encoder.blocks = "2Intra-Multi-2Intra"
model.encoder.ffn_dim = 1024
model.encoder.num_levels = 3
model.decoder.modulation.scale_selection = True
