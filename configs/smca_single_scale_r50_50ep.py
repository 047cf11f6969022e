"""Single-scale SMCA with a multi-head prior of independent width and height, ResNet-50, 50 epochs."""

from .common.train import train

train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/smca_single_scale_r50_50ep"
