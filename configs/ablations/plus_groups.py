"""Beyond the paper, A to C: three groups of queries in training."""

from ..models.plus import use_groups
from .plus_denoising import dataloader, lr_multiplier, model, optimizer, train

use_groups(model, num_groups=3)

train.output_dir = "./output/ablations/plus_groups"
