"""A decoder layer, and a cross-attention, of one's own."""

import torch
from detectron2.config import LazyCall as L
from torch import nn

from smca.modeling import DecoderLayer, LevelCoAttention


class NearestCoAttention(LevelCoAttention):
    """Looks at the level that the prior weighs most, and at no other."""

    def forward(self, query, levels, prior=None):
        heads = [
            super(NearestCoAttention, self).forward(query, [level], _OneLevel(prior, s))
            for s, level in enumerate(levels)
        ]
        best = prior.level_weights.argmax(-1)
        weights = nn.functional.one_hot(best, len(levels)) - prior.level_weights.detach()
        weights = (weights + prior.level_weights)[..., None]
        return sum(weights[:, :, s] * part for s, part in enumerate(heads))


class _OneLevel:
    level_weights = None

    def __init__(self, prior, index):
        self.prior, self.index = prior, index

    def bias(self, _, level):
        return self.prior.bias(self.index, level)


class PreNormLayer(DecoderLayer):
    """Norms before each part instead of behind it."""

    def forward(self, target, query_position, levels, prior=None, attention_mask=None):
        normed = self.norm1(target)
        located = normed + query_position
        target = target + self.dropout(
            self.self_attention(located, located, normed, attention_mask)
        )
        located = self.norm2(target) + query_position
        target = target + self.dropout(self.co_attention(located, levels, prior))
        return target + self.dropout(self.ffn(self.norm3(target)))


def use_own_layer(model):
    shape = {"embed_dim": "${...embed_dim}", "num_heads": "${...num_heads}"}
    model.decoder.layer = L(PreNormLayer)(
        **shape,
        ffn_dim="${..ffn_dim}",
        dropout="${..dropout}",
        co_attention=L(NearestCoAttention)(**shape),
    )
    for node in (model.decoder.layer, model.decoder.layer.co_attention):
        node.embed_dim = 16
        node.num_heads = 4


def test_a_layer_and_a_cross_attention(train_and_predict):
    done = train_and_predict(use_own_layer, base="smca")
    layers = done["model"].decoder.layers
    assert [type(layer) for layer in layers] == [PreNormLayer] * 2
    assert type(layers[0].co_attention) is NearestCoAttention
    # Copies of one layer, each with weights of its own.
    first, second = (layer.ffn.linear1.weight for layer in layers)
    assert not torch.equal(first, second)
