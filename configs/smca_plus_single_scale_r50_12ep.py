"""Single-scale SMCA with all parts beyond the paper, ResNet-50, the short schedule; nobody has trained it yet."""

from .common.coco import dataloader
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train
from .common.twelve_epochs import use_twelve_epochs
from .models.smca_plus_single_scale import model

use_twelve_epochs(model=model, dataloader=dataloader, lr_multiplier=lr_multiplier, train=train)

train.init_checkpoint = "torchvision://resnet50"
train.output_dir = "./output/smca_plus_single_scale_r50_12ep"
