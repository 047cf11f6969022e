"""Table 3, an encoder of three multi-scale blocks."""

from ..smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.encoder.blocks = "3Multi"
train.output_dir = "./output/ablations/encoder_3multi"
