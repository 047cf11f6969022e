"""Beyond the paper, A to D: classes learn the IoU of the box; with E it is smca_plus_single_scale_r50_12ep."""

from ..models.plus import use_iou_classification
from .plus_groups import dataloader, lr_multiplier, model, optimizer, train

use_iou_classification(model)

train.output_dir = "./output/ablations/plus_iou"
