"""Deformable DETR with iterative refinement of boxes, ResNet-50, 50 epochs."""

from .deformable_detr_r50_50ep import dataloader, lr_multiplier, optimizer, train
from .models.deformable_detr_refine import model

train.output_dir = "./output/deformable_detr_refine_r50_50ep"
