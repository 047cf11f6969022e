"""Your own small data set, up to a few thousand images: fine-tune a trained SMCA R50.

    python train_net.py --config-file configs/custom_coco_small.py train.init_checkpoint=trained.pth \\
        data.train_json=train.json data.train_images=train data.val_json=val.json data.val_images=val

The model's shape must be the checkpoint's, its classes need not. ``train.epochs`` times the images divided by
``dataloader.train.total_batch_size`` should be 500 steps or more.
"""

from .common.small_data import use_small_data_recipe
from .custom_coco import data, dataloader, lr_multiplier, model, optimizer, train

use_small_data_recipe(optimizer=optimizer, lr_multiplier=lr_multiplier, train=train, epochs=40)

# To be given: without a trained detector's weights this recipe is too short.
train.init_checkpoint = ""
train.output_dir = "./output/custom_coco_small"
