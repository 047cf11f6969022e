"""Deformable DETR with levels at strides 8 to 64 on the bundled digits."""

from ..models.deformable_detr import model
from ..models.small import shrink
from .smca_single_scale import dataloader, lr_multiplier, optimizer, train

shrink(model)
model.encoder.num_layers = 3

optimizer.params.lr_factors = {"sampling_offsets": 0.1, "reference_points": 0.1}

train.output_dir = "./output/digits_deformable_detr"
