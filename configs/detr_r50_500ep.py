"""DETR as published: 100 queries, cross entropy, 64 images a step, 500 epochs."""

from .common.coco import dataloader
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train
from .models.detr_published import model

dataloader.train.total_batch_size = 64
train.lr_scaling.reference_batch_size = 64
train.epochs = 500
train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/detr_r50_500ep"
