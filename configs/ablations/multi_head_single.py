"""Table 2, multi-head prior with one scale for width and height."""

from ..smca_single_scale_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.decoder.modulation.scale = "single"
train.output_dir = "./output/ablations/multi_head_single"
