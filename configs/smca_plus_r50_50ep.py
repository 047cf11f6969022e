"""The same for the paper's 50 epochs; nobody has trained it yet."""

from .smca_plus_r50_12ep import dataloader, lr_multiplier, model, optimizer, train

train.epochs = 50
lr_multiplier.drop_at = [0.8]
train.output_dir = "./output/smca_plus_r50_50ep"
