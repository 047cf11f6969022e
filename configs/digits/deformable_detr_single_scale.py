"""Deformable DETR with one level at stride 16, of the size of digits/smca_single_scale."""

from ..models.deformable_detr_single_scale import model
from ..models.small import shrink
from .deformable_detr import dataloader, lr_multiplier, optimizer, train

shrink(model)
model.backbone.out_features = ["res4"]
model.neck.strides = [16]
model.encoder.num_layers = 2

train.output_dir = "./output/digits_deformable_detr_single_scale"
