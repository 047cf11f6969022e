"""Full SMCA, ResNet-50, 50 epochs."""

from .common.train import train

train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/smca_r50_50ep"
