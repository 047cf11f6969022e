"""The peer a user would pick instead: Detectron2's Faster R-CNN FPN with its own 3x recipe."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config

from .common.coco import dataloader
from .common.train import train
from .models.faster_rcnn_fpn import model

optimizer = get_config("common/optim.py").SGD
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_3x

dataloader.train.dataset.filter_empty = True
dataloader.train.mapper.augmentations = [
    L(T.ResizeShortestEdge)(
        short_edge_length=[640, 672, 704, 736, 768, 800], max_size=1333, sample_style="choice"
    ),
    L(T.RandomFlip)(horizontal=True),
]
dataloader.train.total_batch_size = 16
train.lr_scaling.reference_batch_size = 16

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.max_iter = 270000
train.clip_grad_norm = 0.0
train.output_dir = "./output/faster_rcnn_fpn_r50_3x"
