"""Deformable DETR, ResNet-50, four levels, 150 epochs."""

from .deformable_detr_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

train.epochs = 150
# Neither the paper nor the release names an epoch for this schedule; 120, as 40 is of 50, is an assumption of ours.
lr_multiplier.drop_at = [120 / 150]
train.output_dir = "./output/deformable_detr_r50_150ep"
