"""Table 2, head-shared prior of independent width and height, 8 images a step."""

from ..smca_single_scale_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.decoder.modulation.per_head = False
train.output_dir = "./output/ablations/head_shared_bs8"
