import numpy as np
import torch

from helpers.builders import draw_parameters
from helpers.oracles import feed_forward, params_of
from smca.layers import FeedForward


def test_equals_linear_relu_linear():
    module = draw_parameters(FeedForward(6, 10, dropout=0.5)).double().eval()
    x = torch.randn(2, 5, 6, dtype=torch.float64)

    result = module(x)

    params = {f"f.{name}": value for name, value in params_of(module).items()}
    expected = [[feed_forward(params, "f", row) for row in image] for image in x.numpy()]
    np.testing.assert_allclose(result.detach().numpy(), expected, atol=1e-12)


def test_dropout_is_on_the_hidden_layer():
    module = FeedForward(6, 10, dropout=1.0)

    result = module(torch.randn(3, 6))

    torch.testing.assert_close(result, module.linear2.bias.expand(3, 6))
