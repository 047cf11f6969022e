"""Single-scale SMCA from scratch on the bundled digits in minutes on a CPU; what ``make demo`` trains."""

from ..common.digits import dataloader
from ..common.optim import optimizer
from ..common.schedule import lr_multiplier
from ..common.train import train
from ..models.smca_single_scale import model

model.num_classes = 10
# Half-width ResNet-18 up to stride 16. From scratch, so its norms train and nothing is frozen.
model.backbone.depth = 18
model.backbone.stem_channels = 32
model.backbone.out_features = ["res4"]
model.backbone.norm = "BN"
model.backbone.freeze_at = 0
model.neck.in_channels = [128]
model.neck.in_strides = [16]
model.neck.strides = [16]
model.encoder.blocks = ["intra", "intra"]
model.encoder.ffn_dim = 512
model.encoder.dropout = 0.0
model.decoder.num_queries = 30
model.decoder.num_layers = 3

optimizer.lr = 2e-4
optimizer.params.backbone_lr = "${..lr}"
lr_multiplier.drop_epochs = [7]
lr_multiplier.warmup_iterations = 100

train.output_dir = "./output/digits_smca_single_scale"
train.epochs = 9
train.checkpointer.max_to_keep = 1
train.evaluation.period_epochs = 3
