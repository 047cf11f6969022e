"""Table 3, an encoder of three intra-scale blocks."""

from ..smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.encoder.blocks = "3Intra"
train.output_dir = "./output/ablations/encoder_3intra"
