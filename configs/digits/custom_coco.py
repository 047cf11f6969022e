"""Your own COCO-format data with a model small enough to train from scratch on a CPU; see ../custom_coco.py."""

from ..custom_coco import data, dataloader
from .smca_single_scale import lr_multiplier, model, optimizer, train

dataloader.train.total_batch_size = 16
dataloader.train.num_workers = 2
dataloader.test.num_workers = 2
# Flip and resize, without the crop: images of any size, brought to about that of the digits'.
_flip, _, _resize = dataloader.train.mapper.augmentations
_resize.short_edge_length = [128, 144, 160, 176, 192]
_resize.max_size = 320
dataloader.train.mapper.augmentations = [_flip, _resize]
dataloader.test.mapper.augmentations[0].short_edge_length = 160
dataloader.test.mapper.augmentations[0].max_size = 320

# Null: as many as the data set has.
model.num_classes = None

train.output_dir = "./output/digits_custom_coco"
