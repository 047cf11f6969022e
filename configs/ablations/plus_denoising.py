"""Beyond the paper, A and B: noised objects as further queries in training."""

from ..models.plus import use_denoising
from .plus_boxes import dataloader, lr_multiplier, model, optimizer, train

use_denoising(model)

train.output_dir = "./output/ablations/plus_denoising"
