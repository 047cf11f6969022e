"""Full SMCA with all parts beyond the paper, ResNet-50, the short schedule; nobody has trained it yet."""

from .models.smca_plus import model
from .smca_plus_single_scale_r50_12ep import dataloader, lr_multiplier, optimizer, train

model.encoder.dropout = 0.0

train.output_dir = "./output/smca_plus_r50_12ep"
