from collections.abc import Sequence

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import Backbone, ResNet
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from torch import Tensor
from torch.nn import functional as F

from smca.errors import InputError
from smca.layers.padding import Border
from smca.timm_features import build_features

FEATURE_PREFIX = "stride"

BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


class IsolatingResNet(ResNet):
    """Detectron2's ResNet that can give every image of a padded batch the features that it has alone.

    On a CPU it trains in any memory layout, see :func:`_shortcut`.
    """

    trains_channels_last = True

    def forward(self, pixels: Tensor, padding_mask: Tensor | None = None) -> dict[str, Tensor]:
        """Features of a batch, of padded images as if they stood alone.

        Args:
            pixels: (B, 3, height, width), zero where padded.
            padding_mask: (B, height, width) bool, True where padded; height and width are then multiples of the
                largest stride. None computes what Detectron2's ResNet does.

        Returns:
            Features by name; their padded cells have no meaning.
        """
        if padding_mask is None:
            return super().forward(pixels)
        border = Border(padding_mask)
        features, outputs = self.stem(pixels, border), {}
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            for block in stage:
                features = block(features, border)
            if name in self._out_features:
                outputs[name] = features
        return outputs


class _Stem(BasicStem):
    def forward(self, x: Tensor, border: Border | None = None) -> Tensor:
        if border is None:
            return super().forward(x)
        # After the ReLU no value is below the zeros, which so are to the maximum what nothing is.
        x = F.relu_(border.zero_(self.conv1(x)))
        return border.zero_(F.max_pool2d(x, kernel_size=3, stride=2, padding=1))


class _BasicBlock(BasicBlock):
    def forward(self, x: Tensor, border: Border | None = None) -> Tensor:
        zero = _unchanged if border is None else border.zero_
        out = F.relu_(zero(self.conv1(x)))
        out = self.conv2(out)
        out += _shortcut(self.shortcut, x)
        return F.relu_(zero(out))


class _BottleneckBlock(BottleneckBlock):
    def forward(self, x: Tensor, border: Border | None = None) -> Tensor:
        zero = _unchanged if border is None else border.zero_
        # The other convolutions are 1x1 and see no neighbours.
        out = F.relu_(zero(self.conv1(x)))
        out = self.conv3(F.relu_(self.conv2(out)))
        out += _shortcut(self.shortcut, x)
        return F.relu_(out)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _shortcut(projection: Conv2d | None, x: Tensor) -> Tensor:
    """A block's input as it is added to its output; the projection is a 1x1 convolution.

    With a gradient on a CPU a strided one takes every second cell first: oneDNN's backward pass of a strided 1x1
    convolution writes out of bounds where channels are last (torch 2.14).
    """
    if projection is None:
        return x
    if projection.stride == (1, 1) or x.is_cuda or not torch.is_grad_enabled():
        return projection(x)
    rows, columns = projection.stride
    x = F.conv2d(x[:, :, ::rows, ::columns], projection.weight, projection.bias)
    return x if projection.norm is None else projection.norm(x)


NORMS = ("FrozenBN", "BN", "SyncBN", "GN")
"""What Detectron2's ``get_norm`` makes, without those for debugging."""


def _check_norm(norm: object) -> None:
    try:
        # A group norm wants a multiple of 32.
        get_norm(norm, 32)
    except (KeyError, TypeError) as error:
        raise InputError(
            f'backbone.norm {norm!r} is unknown; choose one of {", ".join(NORMS)}, or "" for none'
        ) from error


def build_resnet(
    *,
    depth: int = 50,
    out_features: Sequence[str] = ("res5",),
    norm: str = "FrozenBN",
    freeze_at: int = 2,
    stem_channels: int = 64,
    dilate_res5: bool = False,
) -> IsolatingResNet:
    """Detectron2's ResNet as torchvision and DETR build it: stride in the 3x3 convolution.

    Args:
        depth: 18, 34, 50, 101 or 152.
        out_features: names among "res2" ... "res5"; stages after the last one are not built.
        norm: Detectron2's norm name; "FrozenBN" needs pre-trained weights, "BN" trains from scratch.
        freeze_at: stages without gradients, counted from the stem: 2 freezes the stem and res2.
        stem_channels: channels of the stem and of a res2 bottleneck; 64 is the standard width, 32 half of it.
        dilate_res5: DC5. res5 keeps stride 16; as in torchvision its first block has dilation 1, the others 2
            (Detectron2's own RES5_DILATION dilates the first one too, which released DC5 weights do not fit).

    Raises:
        InputError: for an unknown depth, feature name or norm, or a dilated ResNet of basic blocks.
    """
    _check_norm(norm)
    if depth not in BLOCKS_PER_STAGE:
        raise InputError(
            f"ResNet depth {depth} is unknown; choose one of {sorted(BLOCKS_PER_STAGE)}"
        )
    stage_names = ("res2", "res3", "res4", "res5")
    unknown = sorted(set(out_features) - set(stage_names))
    if unknown or not out_features:
        raise InputError(
            f"backbone.out_features {list(out_features)} must name stages among {list(stage_names)}"
        )
    bottleneck = depth >= 50
    if dilate_res5 and not bottleneck:
        raise InputError(f"dilate_res5 needs bottleneck blocks (depth 50 or more), got {depth}")

    num_stages = 1 + max(stage_names.index(f) for f in out_features)
    stages, in_channels = [], stem_channels
    for index, num_blocks in enumerate(BLOCKS_PER_STAGE[depth][:num_stages]):
        width = stem_channels * 2**index
        dilated = dilate_res5 and index == 3
        first_stride = 1 if index == 0 or dilated else 2
        options = {"stride_per_block": [first_stride] + [1] * (num_blocks - 1), "norm": norm}
        if bottleneck:
            options["bottleneck_channels"] = width
            options["stride_in_1x1"] = False
            if dilated:
                options["dilation_per_block"] = [1] + [2] * (num_blocks - 1)
        out_channels = width * 4 if bottleneck else width
        stages.append(
            ResNet.make_stage(
                _BottleneckBlock if bottleneck else _BasicBlock,
                num_blocks,
                in_channels=in_channels,
                out_channels=out_channels,
                **options,
            )
        )
        in_channels = out_channels
    stem = _Stem(in_channels=3, out_channels=stem_channels, norm=norm)
    return IsolatingResNet(stem, stages, out_features=list(out_features), freeze_at=freeze_at)


class TimmBackbone(Backbone):
    """The feature maps of a model of `timm <https://github.com/huggingface/pytorch-image-models>`_.

    Features are called "stride16", "stride32" and so on. It starts with random weights;
    ``train.init_checkpoint=timm://NAME`` loads timm's own when a training starts.
    """

    def __init__(
        self,
        *,
        name: str,
        strides: Sequence[int] = (32,),
        frozen_norm: bool = False,
        size_divisibility: int = 0,
    ):
        """
        Args:
            name: such as "convnext_tiny" or "resnet50.a1_in1k".
            strides: of the features to give.
            frozen_norm: whether batch norms keep the statistics and scales that are loaded into them.
            size_divisibility: images are padded to a multiple of it, for models that need whole patches or windows.

        Raises:
            InputError: if timm is not installed, or has no such model, or the model has no such strides.
        """
        super().__init__()
        self.body = build_features(name, strides=strides)
        if frozen_norm:
            self.body = FrozenBatchNorm2d.convert_frozen_batchnorm(self.body)
        self._size_divisibility = size_divisibility
        info = self.body.feature_info
        self._shapes = {
            f"{FEATURE_PREFIX}{stride}": ShapeSpec(channels=channels, stride=stride)
            for stride, channels in zip(info.reduction(), info.channels(), strict=True)
        }
        # Transformers give (B, h, w, channels).
        self._channels_last = getattr(self.body, "output_fmt", "NCHW") == "NHWC"

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(B, 3, height, width) -> (B, channels, h, w) by name."""
        maps = self.body(pixels)
        if self._channels_last:
            maps = [values.permute(0, 3, 1, 2) for values in maps]
        return dict(zip(self._shapes, maps, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility
