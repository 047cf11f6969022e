from collections.abc import Mapping, Sequence

import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from smca.errors import InputError
from smca.layers import sine_position_encoding
from smca.layers.padding import norm_of_valid, resize_mask

from .records import FeatureLevel


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
        strides: Sequence[int],
        in_channels: Sequence[int] | None = None,
        in_strides: Sequence[int] | None = None,
        embed_dim: int = 256,
        num_groups: int | None = None,
        level_embedding: bool | None = None,
        position_shift: float = 0.0,
        xavier: bool = False,
        see_padding: bool = False,
    ):
        """
        Args:
            in_features: names of the backbone features to use.
            strides: ascending strides of the levels in pixels, such as (16, 32, 64).
            in_channels, in_strides: of the features. With both the projections are made at once, else :meth:`connect`
                takes them from the backbone; it checks those that are given.
            embed_dim: C.
            num_groups: of a group norm after each projection, over the valid cells of each image; None has no norm.
            level_embedding: whether positions have the learned embedding of their level; None is with several levels.
            position_shift: of the sine code in cells, see :func:`smca.layers.sine_position_encoding`.
            xavier: projections start Xavier-uniform with a bias of 0, not with PyTorch's default.
            see_padding: where images are not isolated, norms and windows of further strides see what the backbone makes
                of padding, as in the released Deformable DETR; by default neither ever does.

        Raises:
            InputError: as :meth:`connect`.
        """
        super().__init__()
        self.in_features = tuple(in_features)
        self.strides = tuple(strides)
        self.embed_dim = embed_dim
        self.num_groups = num_groups
        self.input_shape: dict[str, ShapeSpec] = {}
        self._given = {"channels": in_channels, "stride": in_strides}
        if not self.strides or list(self.strides) != sorted(set(self.strides)):
            raise InputError(
                f"neck.strides must be ascending and not empty, got {list(self.strides)}"
            )
        if level_embedding is None:
            level_embedding = len(self.strides) > 1
        self.level_embedding = (
            nn.Parameter(torch.randn(len(self.strides), embed_dim)) if level_embedding else None
        )
        self.position_shift = position_shift
        self.xavier = xavier
        self.see_padding = see_padding
        if in_channels is not None and in_strides is not None:
            shapes = zip(self.in_features, in_channels, in_strides, strict=True)
            self.connect({name: ShapeSpec(channels=c, stride=s) for name, c, s in shapes})

    def connect(self, output_shape: Mapping[str, ShapeSpec]) -> None:
        """Make the projections of a backbone's features; a neck that has them checks that they fit.

        Args:
            output_shape: the backbone's, with channels and stride of every feature.

        Raises:
            InputError: if a feature is not there or has another shape than known, or a stride is neither given by a
                feature nor reached by doubling the coarsest one.
        """
        given = {name: _shape_of(name, output_shape) for name in self.in_features}
        self._check_given(given)
        if self.input_shape:
            return
        self.input_shape = given
        by_stride = {spec.stride: name for name, spec in given.items()}
        _check_strides(self.strides, by_stride)
        self.level_features = tuple(by_stride.get(stride) for stride in self.strides)
        self.coarsest_feature = by_stride[max(by_stride)]
        self.projections, self.norms = nn.ModuleList(), nn.ModuleList()
        in_channels = given[self.coarsest_feature].channels
        for feature in self.level_features:
            if feature is not None:
                self.projections.append(nn.Conv2d(given[feature].channels, self.embed_dim, 1))
            else:
                self.projections.append(
                    nn.Conv2d(in_channels, self.embed_dim, kernel_size=3, stride=2, padding=1)
                )
                in_channels = self.embed_dim
            if self.num_groups is not None:
                self.norms.append(nn.GroupNorm(self.num_groups, self.embed_dim))
        if self.xavier:
            for projection in self.projections:
                nn.init.xavier_uniform_(projection.weight)
                nn.init.zeros_(projection.bias)

    def _check_given(self, shapes: Mapping[str, ShapeSpec]) -> None:
        for kind, values in self._given.items():
            for name, wanted in zip(self.in_features, values or (), strict=values is not None):
                shape = shapes[name]
                if getattr(shape, kind) != wanted:
                    raise InputError(
                        f"backbone feature {name!r} has {shape.channels} channels at stride {shape.stride}, "
                        f"neck.in_{'channels' if kind == 'channels' else 'strides'} says {wanted}"
                    )

    def forward(
        self,
        features: Mapping[str, Tensor],
        padding_mask: Tensor | None,
        *,
        isolate: bool = True,
    ) -> list[FeatureLevel]:
        """Project features to levels, and make coarser ones.

        Args:
            features: backbone features (B, channels, h, w) by name.
            padding_mask: (B, height, width) bool in pixels of the padded batch, True where padded; None when no
                image is padded. Each level samples it to the nearest pixel.
            isolate: False only lets padding be seen by a neck that was built to.

        Returns:
            One level per stride, finest first.
        """
        levels = []
        kept_out = None if self.see_padding and not isolate else padding_mask
        source = _zero_padding(features[self.coarsest_feature], kept_out)
        for index, (feature, projection) in enumerate(
            zip(self.level_features, self.projections, strict=True)
        ):
            projected = projection(source if feature is None else features[feature])
            if self.num_groups is not None:
                projected = norm_of_valid(self.norms[index], projected, kept_out)
            if feature is None:
                # What padding holds must not leak into valid cells through the next 3x3 window.
                source = _zero_padding(projected, kept_out)
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
        position = sine_position_encoding(mask, self.embed_dim, shift=self.position_shift).to(
            projected.dtype
        )
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


def _shape_of(name: str, output_shape: Mapping[str, ShapeSpec]) -> ShapeSpec:
    if name not in output_shape:
        raise InputError(
            f"the neck wants backbone feature {name!r}, the backbone gives {sorted(output_shape)}"
        )
    return output_shape[name]


def _check_strides(strides: tuple[int, ...], by_stride: Mapping[int, str]) -> None:
    extra = max(by_stride) * 2
    given = ", ".join(f"{stride} ({name})" for stride, name in sorted(by_stride.items()))
    for stride in strides:
        if stride in by_stride:
            continue
        if stride != extra:
            raise InputError(
                f"neck.strides {list(strides)} asks for stride {stride}, which the backbone does not give: "
                f"its features have strides {given}, and coarser levels double the coarsest one"
            )
        extra *= 2


def _zero_padding(feature: Tensor, padding_mask: Tensor | None) -> Tensor:
    if padding_mask is None:
        return feature
    return feature.masked_fill(resize_mask(padding_mask, feature.shape[-2:])[:, None], 0.0)
