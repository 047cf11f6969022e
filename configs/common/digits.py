"""The bundled digits, small enough for a CPU: no augmentation, images at their own size."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from .coco import dataloader

dataloader.train.dataset.names = "digits_train"
dataloader.train.mapper.augmentations = []
dataloader.train.total_batch_size = 16
dataloader.train.num_workers = 2
dataloader.test.dataset.names = "digits_val"
dataloader.test.mapper.augmentations = [
    L(T.ResizeShortestEdge)(short_edge_length=128, max_size=128)
]
dataloader.test.batch_size = 10
dataloader.test.num_workers = 2
