from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from smca.config import model_from_cfg


@META_ARCH_REGISTRY.register()
def LazyModel(cfg: CfgNode) -> nn.Module:  # noqa: N802 - registered under the name a CfgNode shows
    """Any other model that a LazyConfig describes, such as the Faster R-CNN that the paper compares with."""
    return model_from_cfg(cfg)
