import dataclasses
import math
import pickle

import pytest
import torch
from torch import Tensor, nn

from smca.engine import NonFiniteError
from smca.engine.nonfinite import file_names, first_bad_gradient, first_bad_tensor

ALL_FINE = "every layer's output is finite, so it is the loss itself"


@dataclasses.dataclass
class Record:
    tokens: Tensor
    size: tuple[int, int]


class Wrap(nn.Module):
    """Hands its input on in a container."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


class Scale(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def found(model):
    return first_bad_tensor(model, lambda: model(torch.ones(2)))


def test_a_parameter_comes_before_what_it_spoils():
    model = nn.Sequential(Scale(math.inf), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].bias[1] = math.nan
    assert found(model) == "the first bad tensor is the parameter 1.bias"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_output_in_the_order_of_the_data(value):
    model = nn.Sequential(Scale(1.0), nn.Sequential(Scale(2.0), Scale(value)), Scale(3.0))
    assert found(model) == "the first bad tensor is the output of 1.1"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: {"a": {"b": x}},
        lambda x: [torch.ones(1), (x,)],
        lambda x: Record(tokens=x, size=(1, 2)),
        lambda x: [Record(tokens=x, size=(1, 2))],
    ],
)
def test_outputs_in_containers(wrap):
    assert found(nn.Sequential(Wrap(wrap))) == ALL_FINE
    model = nn.Sequential(Scale(1.0), Wrap(lambda x: wrap(x * math.nan)))
    assert found(model) == "the first bad tensor is the output of 1"


def test_integers_masks_and_other_outputs_are_no_tensors_of_interest():
    model = nn.Sequential(Wrap(lambda x: (x.bool(), x.long(), None, "text", 3)))
    assert found(model) == ALL_FINE


def test_an_error_on_the_way_is_expected_and_hooks_go_away():
    model = nn.Sequential(Scale(math.nan))

    def run():
        model(torch.ones(2))
        raise FloatingPointError("the matching cost")

    assert first_bad_tensor(model, run) == "the first bad tensor is the output of 0"
    assert not model[0]._forward_hooks


def test_hooks_go_away_after_a_bug():
    model = nn.Sequential(Scale(1.0))

    def run():
        raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        first_bad_tensor(model, run)
    assert not model[0]._forward_hooks


def test_it_leaves_no_gradients():
    model = nn.Sequential(nn.Linear(2, 2))
    seen = []
    first_bad_tensor(model, lambda: seen.append(model(torch.ones(2))))
    assert not seen[0].requires_grad


def test_the_gradient_nearest_to_the_loss():
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model[2].bias.grad = None
    assert first_bad_gradient(model).startswith("every gradient is finite")
    model[0].weight.grad[:] = math.nan
    assert first_bad_gradient(model) == "the first bad tensor is the gradient of 0.weight"
    model[1].weight.grad[:] = math.inf
    assert first_bad_gradient(model) == "the first bad tensor is the gradient of 1.weight"


def test_file_names():
    assert file_names([{"file_name": "a.jpg"}, {"image_id": 3}]) == "images a.jpg, ?"


def test_the_error_goes_between_processes():
    error = pickle.loads(pickle.dumps(NonFiniteError("iteration 3: loss is nan")))
    assert isinstance(error, FloatingPointError)
    assert str(error) == "iteration 3: loss is nan"
