"""The digits' single-scale model with all parts beyond the paper; data and schedule are the same."""

from ..models.plus import (
    use_denoising,
    use_dynamic_boxes,
    use_groups,
    use_iou_classification,
    use_query_selection,
)
from .smca_single_scale import dataloader, lr_multiplier, model, optimizer, train

use_dynamic_boxes(model)
use_denoising(model, num_denoising=40)
use_groups(model, num_groups=3)
use_iou_classification(model)
use_query_selection(model)

train.output_dir = "./output/digits_smca_plus"
