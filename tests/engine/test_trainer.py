import io
import math

import pytest
import torch
from detectron2.engine import HookBase
from torch import nn

from smca.data import TrainLoader
from smca.engine import Trainer


class Regression(nn.Module):
    """Two losses; the images decide how large they are, or that one is not finite."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0]))

    def forward(self, batch):
        scale = sum(item["scale"] for item in batch)
        return {
            "loss_a": (self.weight * scale).square().sum(),
            "loss_b": 3 * self.weight.sum(),
        }


class RootLoss(Regression):
    """Finite at 0, its gradient is not."""

    def forward(self, batch):
        return {"loss_a": (self.weight - self.weight.detach()).sum().sqrt()}


class GradientNorms(HookBase):
    def __init__(self):
        self.norms = []

    def after_step(self):
        gradient = self.trainer.model.weight.grad
        self.norms.append(gradient.norm().item())


def make_trainer(scales=(1.0,), *, model=None, clip=0.0, batch_size=1, optimizer=torch.optim.SGD):
    dataset = [{"scale": scale, "file_name": f"{i}.jpg"} for i, scale in enumerate(scales)]
    model = model or Regression()
    loader = TrainLoader(
        dataset=dataset, mapper=dict, total_batch_size=batch_size, num_workers=0, seed=1
    )
    return Trainer(
        model=model,
        loader=loader,
        optimizer=optimizer(model.parameters(), lr=0.01),
        clip_grad_norm=clip,
    )


def test_one_step_by_hand():
    trainer = make_trainer()
    trainer.train(0, 1)
    # Gradient 2 w + 3 of each weight.
    expected = torch.tensor([1 - 0.01 * (2 + 3), -2 - 0.01 * (-4 + 3)])
    torch.testing.assert_close(trainer.model.weight.detach(), expected)


def test_gradients_do_not_add_up_over_steps():
    trainer = make_trainer()
    trainer.train(0, 2)
    weight = torch.tensor([1.0, -2.0])
    for _ in range(2):
        weight = weight - 0.01 * (2 * weight + 3)
    torch.testing.assert_close(trainer.model.weight.detach(), weight)


def test_losses_and_norm_reach_the_storage():
    trainer = make_trainer()
    trainer.train(0, 1)
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert latest["loss_a"] == pytest.approx(5.0)
    assert latest["loss_b"] == pytest.approx(-3.0)
    assert latest["total_loss"] == pytest.approx(2.0)
    assert latest["grad_norm"] == pytest.approx(math.hypot(5, -1))
    assert latest["data_time"] >= 0


@pytest.mark.parametrize("clip", [0.1, 2.0])
def test_clipping_limits_the_norm_of_all_gradients(clip):
    trainer = make_trainer(scales=[1.0, 50.0], clip=clip)
    norms = GradientNorms()
    trainer.register_hooks([norms])
    before = trainer.model.weight.detach().clone()
    trainer.train(0, 1)
    assert norms.norms == [pytest.approx(clip, rel=1e-4)]
    assert (trainer.model.weight - before).norm().item() == pytest.approx(0.01 * clip, rel=1e-3)
    # What is reported is the norm before clipping.
    assert trainer.storage.latest()["grad_norm"][0] > 5


@pytest.mark.parametrize("clip", [0.0, 100.0])
def test_smaller_gradients_stay(clip):
    trainer = make_trainer(clip=clip)
    norms = GradientNorms()
    trainer.register_hooks([norms])
    trainer.train(0, 1)
    assert norms.norms == [pytest.approx(math.hypot(5, -1))]


@pytest.mark.parametrize("scale", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_step(scale):
    trainer = make_trainer(scales=[scale], clip=0.1, optimizer=torch.optim.AdamW)
    before = trainer.model.weight.detach().clone()
    with pytest.raises(FloatingPointError, match=r"iteration 3: loss_a is (nan|inf) .*0\.jpg"):
        trainer.train(3, 5)
    assert torch.equal(trainer.model.weight.detach(), before)
    assert trainer.optimizer.state_dict()["state"] == {}


def test_a_gradient_that_is_not_finite_stops_before_the_step():
    trainer = make_trainer(model=RootLoss(), clip=0.1)
    before = trainer.model.weight.detach().clone()
    with pytest.raises(FloatingPointError, match=r"the gradient norm is (nan|inf)"):
        trainer.train(0, 1)
    assert torch.equal(trainer.model.weight.detach(), before)


def test_it_starts_at_the_batch_of_its_iteration():
    seen = {}

    class Recorder(Regression):
        def forward(self, batch):
            seen[trainer.iter] = [item["file_name"] for item in batch]
            return super().forward(batch)

    orders = []
    for first in (0, 3):
        seen.clear()
        trainer = make_trainer(scales=[0.1] * 5, model=Recorder(), batch_size=2)
        trainer.train(first, 6)
        orders.append(dict(seen))
    assert sorted(orders[0]) == [0, 1, 2, 3, 4, 5]
    assert orders[1] == {i: orders[0][i] for i in (3, 4, 5)}


def test_the_model_is_in_training_mode():
    model = Regression().eval()
    make_trainer(model=model)
    assert model.training


def test_state_survives_a_safe_load():
    trainer = make_trainer(optimizer=torch.optim.AdamW)
    trainer.train(0, 3)
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)

    other = make_trainer(optimizer=torch.optim.AdamW)
    other.load_state_dict(state)
    assert other.iter == trainer.iter
    (mine,), (theirs,) = (t.optimizer.state.values() for t in (trainer, other))
    assert theirs["step"] == 3
    assert torch.equal(mine["exp_avg"], theirs["exp_avg"])
    assert torch.equal(mine["exp_avg_sq"], theirs["exp_avg_sq"])
