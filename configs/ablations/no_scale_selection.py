"""Table 3, full SMCA with all scales weighed equally."""

from ..smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.decoder.modulation.scale_selection = False
train.output_dir = "./output/ablations/no_scale_selection"
