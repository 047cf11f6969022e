"""Single-scale SMCA from scratch on the bundled digits in minutes on a CPU; what ``make demo`` trains."""

from ..common.digits import dataloader
from ..common.optim import optimizer
from ..common.schedule import lr_multiplier
from ..common.train import train
from ..models.small import shrink, use_stride_16
from ..models.smca_single_scale import model

shrink(model)
use_stride_16(model)

optimizer.lr = 4e-4
optimizer.params.backbone_lr = 1e-3
lr_multiplier.warmup_iterations = 100

train.output_dir = "./output/digits_smca_single_scale"
train.epochs = 8
train.checkpointer.max_to_keep = 2
train.lr_scaling.reference_batch_size = 16
train.evaluation.period_epochs = 2
