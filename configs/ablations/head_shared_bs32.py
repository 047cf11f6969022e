"""Table 2, head-shared prior, 32 images a step."""

from .head_shared_bs8 import dataloader, lr_multiplier, model, optimizer, train

dataloader.train.total_batch_size = 32
train.lr_scaling.reference_batch_size = 32
train.output_dir = "./output/ablations/head_shared_bs32"
