"""Full SMCA, ResNet-101, 50 epochs."""

from .smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.backbone.depth = 101
train.init_checkpoint = "torchvision://resnet101"
train.output_dir = "./output/smca_r101_50ep"
