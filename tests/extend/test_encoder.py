"""An encoder of one's own: feature levels in, feature levels out; and a neck that starts at stride 8."""

import torch
from detectron2.config import LazyCall as L
from torch import nn


class ConvEncoder(nn.Module):
    """A depthwise convolution over each level and, from the next coarser one, what is above."""

    def __init__(self, embed_dim):
        super().__init__()
        self.conv = nn.Conv2d(embed_dim, embed_dim, 3, padding=1, groups=embed_dim)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, levels):
        encoded, above = [], None
        for level in reversed(levels):
            tokens = level.tokens + level.position
            if level.padding_mask is not None:
                tokens = tokens.masked_fill(level.padding_mask[..., None], 0)
            maps = self.conv(tokens.transpose(1, 2).unflatten(2, level.size))
            if above is not None:
                maps = maps + nn.functional.interpolate(above, level.size)
            above = maps
            encoded.append(
                level.with_tokens(self.norm(level.tokens + maps.flatten(2).transpose(1, 2)))
            )
        return encoded[::-1]


def use_convolutions(model):
    model.backbone.out_features = ["res3", "res4", "res5"]
    model.neck.strides = [8, 16, 32, 64]
    model.neck.num_groups = 4
    model.encoder = L(ConvEncoder)(embed_dim="${..neck.embed_dim}")
    # What referred to the encoder that is gone.
    model.decoder.num_heads = 4
    model.decoder.ffn_dim = 24
    model.decoder.dropout = 0.0
    model.decoder.num_levels = 4
    model.decoder.activation_checkpointing = False


def test_an_encoder_from_stride_8(train_and_predict):
    model = train_and_predict(use_convolutions, base="smca")["model"]
    # Nobody typed channels or strides of the backbone.
    assert [conv.in_channels for conv in model.neck.projections] == [16, 32, 64, 64]
    assert [type(norm) for norm in model.neck.norms] == [nn.GroupNorm] * 4
    assert (
        len(model.decoder(list(_levels(model)), torch.tensor([[96.0, 64]])).priors[0].centers) == 4
    )


def _levels(model):
    image = model.preprocess_images([{"image": torch.zeros(3, 64, 96)}])
    return model.encoder(model.neck(model.backbone(image.tensor), None))
