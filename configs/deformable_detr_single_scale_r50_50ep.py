"""Deformable DETR with one level at stride 32, ResNet-50, 50 epochs."""

from .deformable_detr_r50_50ep import dataloader, lr_multiplier, optimizer, train
from .models.deformable_detr_single_scale import model

train.output_dir = "./output/deformable_detr_single_scale_r50_50ep"
