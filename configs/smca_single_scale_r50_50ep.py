"""Single-scale SMCA with a multi-head prior of independent width and height, ResNet-50, 50 epochs."""

from .common.coco import dataloader
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train
from .models.smca_single_scale import model

train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/smca_single_scale_r50_50ep"
