"""Deformable DETR in two stages, with iterative refinement of boxes, ResNet-50, 50 epochs."""

from .deformable_detr_r50_50ep import dataloader, lr_multiplier, optimizer, train
from .models.deformable_detr_two_stage import model

# References are proposals, no layer gives them.
optimizer.params.lr_factors = {"sampling_offsets": 0.1}
train.output_dir = "./output/deformable_detr_two_stage_r50_50ep"
