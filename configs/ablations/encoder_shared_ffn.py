"""Table 3, only the FFN is shared: attention projections of its own per scale."""

from ..smca_r50_50ep import dataloader, lr_multiplier, model, optimizer, train

model.encoder.share_attention = False
train.output_dir = "./output/ablations/encoder_shared_ffn"
