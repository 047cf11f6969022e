"""The form that others are measured against computes what the package's model does."""

import plain_smca
import pytest
import torch
from detectron2.structures import ImageList


@pytest.mark.parametrize("config", plain_smca.STRIDES)
def test_equals_the_packages_model(config):
    ours, plain = plain_smca.package_and_plain(config)
    for model in (ours, plain):
        model.eval()
    torch.manual_seed(1)
    pixels = torch.randn(2, 3, 96, 160)

    with torch.no_grad():
        expected, _ = ours.run_network(ImageList(pixels, [(96, 160)] * 2))
        found = plain(pixels)

    for name, tensor in expected.items():
        assert tensor.std(2).min() > 0
        torch.testing.assert_close(found[name], tensor, atol=1e-4, rtol=1e-4)
