"""UP-DETR's fine-tuning, ResNet-50, 16 images a step, 150 epochs; see up_detr_r50_300ep.py for its weights."""

from .up_detr_r50_300ep import dataloader, lr_multiplier, model, optimizer, train

train.epochs = 150
# The release names no drop for this schedule; 100, as DETR has it, is an assumption of ours.
lr_multiplier.drop_at = [100 / 150]
train.output_dir = "./output/up_detr_r50_150ep"
