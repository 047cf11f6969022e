"""digits/deformable_detr with boxes that are refined layer by layer."""

from ..models.deformable_detr_refine import model
from ..models.small import shrink
from .deformable_detr import dataloader, lr_multiplier, optimizer, train

shrink(model)
model.encoder.num_layers = 3

train.output_dir = "./output/digits_deformable_detr_refine"
