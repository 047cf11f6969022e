"""The digits' single-scale model with parts beyond the paper: dynamic boxes, denoising, IoU in classes, selection.

Backbone, encoder, data and schedule are the same. Without groups (C), which brought nothing here.
"""

from ..models.plus import use_parts
from ..models.small import shrink_parts
from .smca_single_scale import dataloader, lr_multiplier, model, optimizer, train

use_parts(model, "ABDE")
shrink_parts(model)

train.output_dir = "./output/digits_smca_plus"
