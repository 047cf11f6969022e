"""Deformable DETR, ResNet-50, four levels, 50 epochs, by the released recipe: 32 images a step."""

from .common.coco import dataloader
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train
from .models.deformable_detr import model

dataloader.train.total_batch_size = 32
optimizer.lr = 2e-4
optimizer.params.backbone_lr = 2e-5
# A tenth for where to look: far off the image there is nothing to come back for.
optimizer.params.lr_factors = {"sampling_offsets": 0.1, "reference_points": 0.1}
train.lr_scaling.reference_batch_size = 32
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/deformable_detr_r50_50ep"
