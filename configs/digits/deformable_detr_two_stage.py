"""digits/deformable_detr in two stages."""

from ..models.deformable_detr_two_stage import model
from ..models.small import shrink
from .deformable_detr import dataloader, lr_multiplier, optimizer, train

shrink(model)
model.encoder.num_layers = 3

optimizer.params.lr_factors = {"sampling_offsets": 0.1}

train.output_dir = "./output/digits_deformable_detr_two_stage"
