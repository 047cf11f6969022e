from collections.abc import Mapping, Sequence

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from smca.layers import sine_position_encoding

from .feature_level import FeatureLevel
from .padding import resize_mask


class Neck(nn.Module):
    """Projects backbone features to C channels, one :class:`FeatureLevel` per stride, without an FPN.

    A stride that the backbone gives gets a 1x1 convolution on that feature. Strides beyond the coarsest feature get
    a 3x3 stride-2 convolution, the first one on the coarsest backbone feature, further ones on the level before.
    With several levels a learned embedding of the level is added to its position encoding.
    """

    def __init__(
        self,
        *,
        in_features: Sequence[str],
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        strides: Sequence[int],
        embed_dim: int = 256,
    ):
        """
        Args:
            in_features, in_channels, in_strides: names of the backbone features to use, their channels and strides.
            strides: ascending strides of the levels in pixels, such as (16, 32, 64).
            embed_dim: C.

        Raises:
            ValueError: if a stride is neither given by a feature nor reached by doubling the coarsest one.
        """
        super().__init__()
        self.input_shape = {
            name: ShapeSpec(channels=channels, stride=stride)
            for name, channels, stride in zip(in_features, in_channels, in_strides, strict=True)
        }
        self.strides = tuple(strides)
        self.embed_dim = embed_dim
        by_stride = {spec.stride: name for name, spec in self.input_shape.items()}
        coarsest = max(by_stride)
        _check_strides(self.strides, by_stride)

        self.level_features = tuple(by_stride.get(stride) for stride in self.strides)
        self.coarsest_feature = by_stride[coarsest]
        self.projections = nn.ModuleList()
        in_channels = self.input_shape[self.coarsest_feature].channels
        for feature in self.level_features:
            if feature is not None:
                channels = self.input_shape[feature].channels
                self.projections.append(nn.Conv2d(channels, embed_dim, kernel_size=1))
            else:
                self.projections.append(
                    nn.Conv2d(in_channels, embed_dim, kernel_size=3, stride=2, padding=1)
                )
                in_channels = embed_dim
        self.level_embedding = (
            nn.Parameter(torch.randn(len(self.strides), embed_dim))
            if len(self.strides) > 1
            else None
        )

    def forward(
        self, features: Mapping[str, Tensor], padding_mask: Tensor | None
    ) -> list[FeatureLevel]:
        """
        Args:
            features: backbone features (B, channels, h, w) by name.
            padding_mask: (B, height, width) bool in pixels of the padded batch, True where padded; None when no
                image is padded. Each level samples it to the nearest pixel.

        Returns:
            One level per stride, finest first.
        """
        levels = []
        source = _zero_padding(features[self.coarsest_feature], padding_mask)
        for index, (feature, projection) in enumerate(
            zip(self.level_features, self.projections, strict=True)
        ):
            if feature is None:
                # What padding holds must not leak into valid cells through the 3x3 window.
                projected = projection(source)
                source = _zero_padding(projected, padding_mask)
            else:
                projected = projection(features[feature])
            levels.append(self._make_level(index, projected, padding_mask))
        return levels

    def _make_level(
        self, index: int, projected: Tensor, padding_mask: Tensor | None
    ) -> FeatureLevel:
        batch, _, height, width = projected.shape
        if padding_mask is None:
            mask = torch.zeros(1, height, width, dtype=torch.bool, device=projected.device)
        else:
            mask = resize_mask(padding_mask, (height, width))
        position = sine_position_encoding(mask, self.embed_dim).to(projected.dtype)
        position = position.flatten(2).transpose(1, 2).expand(batch, -1, -1)
        if self.level_embedding is not None:
            position = position + self.level_embedding[index]
        return FeatureLevel(
            tokens=projected.flatten(2).transpose(1, 2),
            position=position,
            padding_mask=None if padding_mask is None else mask.flatten(1),
            size=(height, width),
            stride=self.strides[index],
        )


def _check_strides(strides: tuple[int, ...], by_stride: Mapping[int, str]) -> None:
    coarsest = max(by_stride)
    extra = coarsest * 2
    given = ", ".join(f"{stride} ({name})" for stride, name in sorted(by_stride.items()))
    if not strides or list(strides) != sorted(set(strides)):
        raise ValueError(f"neck.strides must be ascending and not empty, got {list(strides)}")
    for stride in strides:
        if stride in by_stride:
            continue
        if stride != extra:
            raise ValueError(
                f"neck.strides {list(strides)} asks for stride {stride}, which the backbone does not give: "
                f"its features have strides {given}, and coarser levels double the coarsest one"
            )
        extra *= 2


def _zero_padding(feature: Tensor, padding_mask: Tensor | None) -> Tensor:
    if padding_mask is None:
        return feature
    return feature.masked_fill(resize_mask(padding_mask, feature.shape[-2:])[:, None], 0.0)
