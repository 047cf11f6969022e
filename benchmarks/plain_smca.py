"""SMCA as one would write it down, to measure against: torchvision's ResNet, ``nn.MultiheadAttention``, and equations
(4) to (9) cell by cell. The same numbers as the package's model, whose weights it takes; nothing is fused or blocked.
"""

import math

import torch
from detectron2.config import instantiate
from drawn import keep_in_range
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.ops.misc import FrozenBatchNorm2d

from smca import model_zoo
from smca.checkpoint.conversion.convert_released import convert_resnet
from smca.layers import sine_position_encoding

STRIDES = {"smca_single_scale_r50_50ep": (32,), "smca_r50_50ep": (16, 32, 64)}
"""Configs that can be written down."""

_MULTI_BLOCK = 2  # of 2Intra-Multi-2Intra
_BETA = 8.0
# Stage of torchvision's and channels, by stride.
_FEATURES = {16: ("layer3", 1024), 32: ("layer4", 2048)}
_HEADS, _DROPOUT = 8, 0.1


def package_and_plain(config: str) -> tuple[nn.Module, "PlainSMCA"]:
    """The package's model and the same written down, with the same drawn weights.

    Args:
        config: of :data:`STRIDES`.
    """
    torch.manual_seed(0)
    ours = instantiate(model_zoo.get_config(config).model)
    # Box layers start at 0; a difference behind them would not be seen.
    nn.init.normal_(ours.heads.box.layers[-1].weight, std=0.02)
    plain = PlainSMCA(ours, STRIDES[config])
    keep_in_range(plain)
    backbone = convert_resnet(plain.backbone.state_dict())
    ours.load_state_dict({**ours.state_dict(), **backbone})
    own = {name: x for name, x in plain.state_dict().items() if name.startswith("backbone.")}
    behind = {name: x for name, x in ours.state_dict().items() if not name.startswith("backbone.")}
    plain.load_state_dict({**own, **behind})
    return ours, plain


class PlainSMCA(nn.Module):
    """Parts behind the backbone are named as the package's, whose weights load.

    Attributes:
        has_prior: without, co-attention is DETR's, so that what the prior costs can be measured.
    """

    def __init__(self, model: nn.Module, strides: tuple[int, ...]):
        """``model`` says how wide and deep; nothing of it is kept."""
        super().__init__()
        self.has_prior = True
        dim = model.decoder.query_embedding.weight.shape[1]
        hidden, dropout = model.decoder.layers[0].ffn.linear1.out_features, _DROPOUT
        attention = {"embed_dim": dim, "num_heads": _HEADS, "dropout": dropout}
        self.strides = strides
        self.backbone = resnet50(norm_layer=FrozenBatchNorm2d)
        self.backbone.fc = nn.Identity()
        for part in (self.backbone.conv1, self.backbone.layer1):
            part.requires_grad_(False)
        self.neck = nn.Module()
        self.neck.projections = nn.ModuleList(
            nn.Conv2d(_FEATURES[stride][1], dim, 1)
            if stride in _FEATURES
            else nn.Conv2d(_FEATURES[32][1], dim, 3, stride=2, padding=1)
            for stride in strides
        )
        if len(strides) > 1:
            self.neck.level_embedding = nn.Parameter(torch.zeros(len(strides), dim))
        self.encoder = nn.Module()
        self.encoder.blocks = nn.ModuleList()
        for _ in model.encoder.blocks:
            block = nn.Module()
            block.attention = nn.ModuleList([nn.MultiheadAttention(**attention, batch_first=True)])
            block.ffn = nn.ModuleList([_FeedForward(dim, hidden, dropout)])
            block.norm1, block.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.encoder.blocks.append(block)
        self.decoder = nn.Module()
        self.decoder.query_embedding = nn.Embedding(*model.decoder.query_embedding.weight.shape)
        self.decoder.norm = nn.LayerNorm(dim)
        self.decoder.layers = nn.ModuleList()
        self.decoder.modulation = nn.Module()
        self.decoder.modulation.center = _MLP(dim, 2)
        self.decoder.modulation.layers = nn.ModuleList()
        groups = 2 * _HEADS * len(strides)
        for _ in model.decoder.layers:
            layer, prior = nn.Module(), nn.Module()
            layer.self_attention = nn.MultiheadAttention(**attention, batch_first=True)
            layer.co_attention = nn.MultiheadAttention(**attention, batch_first=True)
            layer.ffn = _FeedForward(dim, hidden, dropout)
            layer.norm1, layer.norm2, layer.norm3 = (nn.LayerNorm(dim) for _ in range(3))
            prior.norm = nn.LayerNorm(dim)
            prior.offset, prior.scale = nn.Linear(dim, groups), nn.Linear(dim, groups)
            if len(strides) > 1:
                prior.level_selection = nn.Linear(dim, len(strides))
            self.decoder.layers.append(layer)
            self.decoder.modulation.layers.append(prior)
        self.heads = nn.Module()
        self.heads.classifier = nn.Linear(dim, model.heads.num_classes)
        self.heads.box = _MLP(dim, 4)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Normalised (B, 3, height, width), no image padded -> logits and boxes of all layers, L first."""
        maps = self._features(pixels)
        image_size = pixels.new_tensor([pixels.shape[3], pixels.shape[2]])
        tokens, positions = [], []
        for s, feature in enumerate(maps):
            unpadded = feature.new_zeros(len(feature), *feature.shape[2:], dtype=torch.bool)
            position = sine_position_encoding(unpadded, feature.shape[1]).flatten(2).mT
            if len(maps) > 1:
                position = position + self.neck.level_embedding[s]
            tokens.append(feature.flatten(2).mT)
            positions.append(position)
        for index, block in enumerate(self.encoder.blocks):
            tokens = self._encode(index, block, tokens, positions)
        sizes = [feature.shape[2:] for feature in maps]
        hidden, center = self._decode(tokens, positions, sizes, image_size)
        boxes = self.heads.box(hidden)
        boxes = torch.cat([boxes[..., :2] + center, boxes[..., 2:]], -1).sigmoid()
        return {"pred_logits": self.heads.classifier(hidden), "pred_boxes": boxes}

    def _features(self, x: Tensor) -> list[Tensor]:
        body, features = self.backbone, {}
        x = body.maxpool(F.relu(body.bn1(body.conv1(x))))
        for name in ("layer1", "layer2", "layer3", "layer4"):
            x = features[name] = getattr(body, name)(x)
        return [
            projection(features[_FEATURES[min(stride, 32)][0]])
            for stride, projection in zip(self.strides, self.neck.projections, strict=True)
        ]

    def _encode(
        self, index: int, block: nn.Module, tokens: list[Tensor], positions: list[Tensor]
    ) -> list[Tensor]:
        lengths = [x.shape[1] for x in tokens]
        if index == _MULTI_BLOCK:
            tokens, positions = [torch.cat(tokens, 1)], [torch.cat(positions, 1)]
        encoded = []
        for x, position in zip(tokens, positions, strict=True):
            located = x + position
            update, _ = block.attention[0](located, located, x)
            x = block.norm1(x + self._drop(update))
            encoded.append(block.norm2(x + self._drop(block.ffn[0](x))))
        return list(torch.cat(encoded, 1).split(lengths, 1))

    def _decode(
        self,
        tokens: list[Tensor],
        positions: list[Tensor],
        sizes: list[tuple[int, int]],
        image_size: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Normalised outputs of all layers (L, B, Q, C), and the centre's logits (B, Q, 2)."""
        position = self.decoder.query_embedding.weight.expand(len(tokens[0]), -1, -1)
        x, center, hidden = torch.zeros_like(position), None, []
        keys = [a + b for a, b in zip(tokens, positions, strict=True)]
        layers = zip(self.decoder.layers, self.decoder.modulation.layers, strict=True)
        for layer, predictor in layers:
            located = x + position
            o_q = predictor.norm(located)
            if center is None:
                center = self.decoder.modulation.center(o_q)
            update, _ = layer.self_attention(located, located, x)
            x = layer.norm1(x + self._drop(update))
            priors = [0.0] * len(sizes)
            if self.has_prior:
                priors = self._log_priors(predictor, o_q, center.sigmoid() * image_size, sizes)
            weights = None
            if len(sizes) > 1:
                weights = predictor.level_selection(o_q).softmax(-1)  # equation (7)
            update = self._co_attend(
                layer.co_attention, x + position, keys, tokens, priors, weights
            )
            x = layer.norm2(x + self._drop(update))
            x = layer.norm3(x + self._drop(layer.ffn(x)))
            hidden.append(self.decoder.norm(x))
        return torch.stack(hidden), center

    def _log_priors(
        self, predictor: nn.Module, o_q: Tensor, center: Tensor, sizes: list[tuple[int, int]]
    ) -> list[Tensor]:
        """Equations (4) and (6), (B, H, Q, N) of each level."""
        shape = (*o_q.shape[:2], len(sizes), _HEADS, 2)
        offset, scale = predictor.offset(o_q).view(shape), predictor.scale(o_q).view(shape)
        priors = []
        for s, (stride, (h, w)) in enumerate(zip(self.strides, sizes, strict=True)):
            rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            cells = torch.stack([columns, rows], -1).flatten(0, 1).to(o_q)
            at = center[:, :, None] / stride + offset[:, :, s]
            distance = cells - at.transpose(1, 2)[..., None, :]
            exponent = (distance * scale[:, :, s].transpose(1, 2)[..., None, :]).square().sum(-1)
            priors.append(-exponent / (_BETA * 32 / stride))
        return priors

    def _co_attend(
        self,
        attention: nn.MultiheadAttention,
        query: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        priors: list[Tensor | float],
        level_weights: Tensor | None,
    ) -> Tensor:
        """Equations (5), (8) and (9): softmax(Q K^T / sqrt(d) + log G) V of each level, weighed and summed."""
        of_query, of_key, of_value = zip(
            attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True
        )
        q = self._split(F.linear(query, *of_query))
        total = 0.0
        for s, (key, value, prior) in enumerate(zip(keys, values, priors, strict=True)):
            k, v = self._split(F.linear(key, *of_key)), self._split(F.linear(value, *of_value))
            logits = q @ k.mT / math.sqrt(q.shape[-1]) + prior
            heads = self._drop(logits.softmax(-1)) @ v
            weight = 1.0 if level_weights is None else level_weights[:, None, :, s, None]
            total = total + heads * weight
        return attention.out_proj(total.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (_HEADS, -1)).transpose(1, 2)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, _DROPOUT, self.training)


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int, dropout: float):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(F.relu(self.linear1(x))))


class _MLP(nn.Module):
    def __init__(self, dim: int, out: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, out)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
