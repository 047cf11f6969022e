"""From a digits checkpoint to other classes or other digits: ``train.init_checkpoint=...`` and the data set's names.

The number of queries and the rest of the model stay as the checkpoint has them; rows of classes with the same name are
carried over.
"""

from ..common.small_data import use_small_data_recipe
from .smca_single_scale import dataloader, lr_multiplier, model, optimizer, train

use_small_data_recipe(optimizer=optimizer, lr_multiplier=lr_multiplier, train=train, epochs=40)

# Null: as many as the data set has.
model.num_classes = None

train.output_dir = "./output/digits_fine_tune"
