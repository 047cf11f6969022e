import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn

from smca.inference.fold_norms import fold_norms


def norm_of(kind):
    torch.manual_seed(0)
    norm = kind(6)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.1, 2)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    return norm


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, FrozenBatchNorm2d, NaiveSyncBatchNorm])
@pytest.mark.parametrize("bias", [False, True])
def test_the_result_is_the_same(kind, bias):
    conv = Conv2d(3, 6, 3, bias=bias, norm=norm_of(kind), activation=torch.relu)
    model = nn.Sequential(conv).eval()
    image = torch.randn(2, 3, 9, 9)
    expected = model(image)
    assert fold_norms(model) == 1
    assert conv.norm is None
    torch.testing.assert_close(model(image), expected, rtol=1e-5, atol=1e-5)
    assert fold_norms(model) == 0


@pytest.mark.parametrize(
    "norm",
    [nn.GroupNorm(2, 6), nn.BatchNorm2d(6, track_running_stats=False), nn.BatchNorm2d(6).train()],
)
def test_norms_whose_statistics_are_not_fixed_stay(norm):
    model = nn.Sequential(Conv2d(3, 6, 3, norm=norm))
    assert fold_norms(model) == 0
    assert model[0].norm is norm
