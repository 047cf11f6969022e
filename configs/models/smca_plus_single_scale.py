"""Single-scale SMCA with all parts beyond the paper: dynamic boxes, denoising, groups, IoU in classes, selection."""

from .plus import (
    use_denoising,
    use_dynamic_boxes,
    use_groups,
    use_iou_classification,
    use_query_selection,
)
from .smca_single_scale import model

use_dynamic_boxes(model)
use_denoising(model)
use_groups(model, num_groups=3)
use_iou_classification(model)
use_query_selection(model)
