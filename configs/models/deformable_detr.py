"""Deformable DETR with levels at strides 8, 16, 32 and 64."""

from .deformable_detr_single_scale import model

model.backbone.out_features = ["res3", "res4", "res5"]
model.neck.strides = [8, 16, 32, 64]
model.encoder.num_levels = 4
