"""Table 3, an encoder of five intra-scale blocks."""

from ..smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.encoder.blocks = "5Intra"
train.output_dir = "./output/ablations/encoder_5intra"
