from detectron2.layers import FrozenBatchNorm2d
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_norms(model: nn.Module) -> int:
    """Fold batch norms with fixed statistics into the convolutions before them, in place; for inference only.

    Args:
        model: in evaluation mode; Detectron2's ``Conv2d`` layers with a ``norm`` are changed.

    Returns:
        How many were folded.
    """
    folded = 0
    for conv in model.modules():
        norm = getattr(conv, "norm", None)
        if not isinstance(conv, nn.Conv2d) or not _has_fixed_statistics(norm):
            continue
        # In float64, since the product of a weight and a scale is rounded only once then.
        conv.weight, conv.bias = (
            nn.Parameter(fused.to(conv.weight.dtype), requires_grad=False)
            for fused in fuse_conv_bn_weights(
                conv.weight.double(),
                None if conv.bias is None else conv.bias.double(),
                norm.running_mean.double(),
                norm.running_var.double(),
                norm.eps,
                norm.weight.double(),
                norm.bias.double(),
            )
        )
        conv.norm = None
        folded += 1
    return folded


def _has_fixed_statistics(norm: nn.Module | None) -> bool:
    if isinstance(norm, _BatchNorm):
        return norm.affine and norm.running_mean is not None and not norm.training
    return isinstance(norm, FrozenBatchNorm2d)
