import numpy as np
import torch

from helpers.builders import draw_parameters
from helpers.oracles import mlp, params_of
from smca.layers import MLP


def test_equals_layers_one_by_one():
    module = draw_parameters(MLP(6, 8, 4, num_layers=3)).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)

    result = module(x)

    params = {f"m.{name}": value for name, value in params_of(module).items()}
    expected = [[mlp(params, "m", row, 3) for row in image] for image in x.numpy()]
    np.testing.assert_allclose(result.detach().numpy(), expected, atol=1e-12)
    assert (result < 0).any()


def test_shapes_of_the_layers():
    assert [tuple(layer.weight.shape) for layer in MLP(6, 8, 4, num_layers=3).layers] == [
        (8, 6),
        (8, 8),
        (4, 8),
    ]
    assert [tuple(layer.weight.shape) for layer in MLP(6, 8, 4, num_layers=1).layers] == [(4, 6)]
