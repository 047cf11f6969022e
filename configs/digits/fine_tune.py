"""The small-data recipe for the bundled digits' model and data of your own, as fields of ``data``; see custom_coco.py.

    python train_net.py --config-file configs/digits/fine_tune.py train.init_checkpoint=output/demo/model_final.pth \\
        data.train_json=train.json data.train_images=train data.val_json=val.json data.val_images=val

The model's shape must be the checkpoint's, its classes need not: rows of classes with the same name are carried over.
"""

from ..common.small_data import use_small_data_recipe
from .custom_coco import data, dataloader, lr_multiplier, model, optimizer, train

use_small_data_recipe(optimizer=optimizer, lr_multiplier=lr_multiplier, train=train, epochs=40)

train.output_dir = "./output/digits_fine_tune"
