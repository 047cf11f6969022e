"""Plain DETR with the same size and schedule as digits/smca_single_scale, to see what the prior brings."""

from ..models.detr import model
from ..models.small import shrink, use_stride_16
from .smca_single_scale import dataloader, lr_multiplier, optimizer, train

shrink(model)
use_stride_16(model)

train.output_dir = "./output/digits_detr"
