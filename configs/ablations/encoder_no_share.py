"""Table 3, attention projections and FFN of its own per scale."""

from ..smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.encoder.share_attention = False
model.encoder.share_ffn = False
train.output_dir = "./output/ablations/encoder_no_share"
