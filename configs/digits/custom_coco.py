"""Your own COCO-format data with a model small enough to train from scratch on a CPU; see ../custom_coco.py."""

from ..custom_coco import data, dataloader
from .smca_single_scale import lr_multiplier, model, optimizer, train

dataloader.train.total_batch_size = 16
dataloader.train.num_workers = 2
dataloader.test.num_workers = 2
# Images of any size, brought to about the size of the digits' images.
dataloader.train.mapper.augmentations = dataloader.train.mapper.augmentations[:1] + [
    dataloader.train.mapper.augmentations[2]
]
dataloader.train.mapper.augmentations[1].short_edge_length = [128, 144, 160, 176, 192]
dataloader.train.mapper.augmentations[1].max_size = 320
dataloader.test.mapper.augmentations[0].short_edge_length = 160
dataloader.test.mapper.augmentations[0].max_size = 320

# Null: as many as the data set has.
model.num_classes = None

train.output_dir = "./output/digits_custom_coco"
