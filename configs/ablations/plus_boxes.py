"""Beyond the paper, A: a prior that follows boxes, which each layer refines."""

from ..models.plus import use_dynamic_boxes
from .plus_none import dataloader, lr_multiplier, model, optimizer, train

use_dynamic_boxes(model)

train.output_dir = "./output/ablations/plus_boxes"
