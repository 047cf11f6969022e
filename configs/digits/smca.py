"""Full SMCA, strides 16, 32 and 64, on the bundled digits."""

from ..models.small import shrink
from ..models.smca import model
from .smca_single_scale import dataloader, lr_multiplier, optimizer, train

shrink(model)
model.encoder.blocks = "Intra-Multi-Intra"

train.output_dir = "./output/digits_smca"
