"""UP-DETR's fine-tuning, ResNet-50, 16 images a step, 300 epochs.

Give the released pre-trained detector, or one of your own under its names, as ``train.init_checkpoint``: its backbone
is SwAV's and its transformer has learnt from ImageNet without labels. From other weights it is a DETR with norms first.
"""

from .common.coco import dataloader
from .common.optim import optimizer
from .common.schedule import lr_multiplier
from .common.train import train
from .models.up_detr import model

dataloader.train.total_batch_size = 16
optimizer.params.backbone_lr = 5e-5
lr_multiplier.drop_at = [200 / 300]
train.epochs = 300
train.lr_scaling.reference_batch_size = 16
train.init_checkpoint = "./up_detr_pretrained.pth"
train.output_dir = "./output/up_detr_r50_300ep"
