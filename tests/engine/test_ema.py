import copy

import pytest
import torch
from torch import nn

from smca.engine import WeightAverage


def model():
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def fill(module, value):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)


def weight(average):
    return average.model[0].weight.detach()


def test_it_starts_as_a_copy():
    source = model()
    average = WeightAverage(source, decay=0.9)
    for name, value in source.state_dict().items():
        assert torch.equal(average.model.state_dict()[name], value)
    fill(source, 3.0)
    assert not (weight(average) == 3).any()


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9])
def test_updates_by_hand(decay):
    source = model()
    fill(source, 1.0)
    average = WeightAverage(source, decay=decay)
    expected = 1.0
    for update in range(1, 30):
        fill(source, float(update % 5))
        average.update(source)
        now = min(decay, (1 + update) / (10 + update))
        expected = now * expected + (1 - now) * (update % 5)
        torch.testing.assert_close(weight(average), torch.full((2, 2), expected))


def test_running_statistics_are_copied():
    source = model()
    average = WeightAverage(source, decay=0.9)
    source(torch.randn(8, 2) + 5)
    average.update(source)
    assert torch.equal(average.model[1].running_mean, source[1].running_mean)
    assert average.model[1].num_batches_tracked == 1


def test_it_takes_no_gradients_and_keeps_the_models_own():
    source = model()
    average = WeightAverage(source, decay=0.9)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in source.parameters())
    source(torch.randn(4, 2)).sum().backward()
    average.update(source)
    assert all(p.grad is None for p in average.model.parameters())


def test_frozen_parameters_stay_exactly():
    source = model()
    source[0].requires_grad_(False)
    average = WeightAverage(source, decay=0.7)
    before = source[0].weight.clone()
    for _ in range(20):
        average.update(source)
    assert torch.equal(weight(average), before)


def test_a_restored_average_goes_on_bit_identical():
    torch.manual_seed(1)
    source = model()
    average = WeightAverage(source, decay=0.99)

    def update(target, seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in source.parameters():
                parameter.normal_()
        target.update(source)

    for seed in range(5):
        update(average, seed)
    state = copy.deepcopy(average.state_dict())
    assert state["updates"] == 5
    restored = WeightAverage(model(), decay=0.99)
    restored.load_state_dict(state)
    for seed in range(5, 8):
        update(average, seed)
        update(restored, seed)
    for name, value in average.model.state_dict().items():
        assert torch.equal(restored.model.state_dict()[name], value)
    # A fresh one would still be in its warm-up.
    fresh = WeightAverage(model(), decay=0.99)
    fresh.model.load_state_dict(state["model"])
    for seed in range(5, 8):
        update(fresh, seed)
    assert not torch.equal(weight(fresh), weight(average))


def test_names_are_the_models_own():
    source = model()
    names = WeightAverage(source, decay=0.5).state_dict()["model"].keys()
    assert names == source.state_dict().keys()
