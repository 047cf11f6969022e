"""Table 2, multi-head prior with the scale fixed at 1."""

from ..smca_single_scale_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.decoder.modulation.scale = "fixed"
train.output_dir = "./output/ablations/multi_head_fixed"
