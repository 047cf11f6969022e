from collections.abc import Sequence

from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor

from smca.timm_features import build_features

FEATURE_PREFIX = "stride"


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
            ValueError: if timm is not installed, or has no such model, or the model has no such strides.
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
