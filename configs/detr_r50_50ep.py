"""The paper's baseline: DETR with 300 queries and the focal loss, 50 epochs."""

from .common.coco import dataloader
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train
from .models.detr import model

train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/detr_r50_50ep"
