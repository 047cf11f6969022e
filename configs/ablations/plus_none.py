"""Where the steps beyond the paper start: its single-scale model in the short schedule."""

from ..common.twelve_epochs import use_twelve_epochs
from ..smca_single_scale_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

use_twelve_epochs(model=model, dataloader=dataloader, lr_multiplier=lr_multiplier, train=train)

train.output_dir = "./output/ablations/plus_none"
