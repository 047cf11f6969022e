"""The paper's baseline: DETR with 300 queries and the focal loss, 50 epochs."""

from .common.train import train

train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/detr_r50_50ep"
