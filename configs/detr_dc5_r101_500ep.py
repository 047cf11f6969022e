"""DETR-DC5 as published, ResNet-101."""

from .detr_dc5_r50_500ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.depth = 101
train.init_checkpoint = "torchvision://resnet101"
train.output_dir = "./output/detr_dc5_r101_500ep"
