"""A training of milliseconds that has everything a long one has: augmentation, dropout, running statistics, EMA."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.engine import HookBase, hooks
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import Tensor, nn

from smca.data import TrainLoader
from smca.description.model_info import ModelInfo
from smca.engine import CheckpointHook, RunCheckpointer, Trainer, WeightAverage


class TinyModel(nn.Module):
    """A regression with dropout, batch norm and draws from every generator a model may use."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.hidden = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Linear(4, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, batch: list[dict]) -> dict[str, Tensor]:
        x = torch.stack([item["x"] for item in batch])
        y = self.out(self.dropout(self.norm(self.hidden(x))))[:, 0]
        noise = random.random() + np.random.rand()
        target = torch.stack([item["y"] for item in batch])
        return {"loss_fit": (y - target).square().mean(), "loss_noise": noise * y.square().mean()}


class Killed(BaseException):
    """What kill -9 leaves behind, without the killing."""


class KillAfter(HookBase):
    """Where it stands among the hooks, after the step of an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise Killed


class CallAt(HookBase):
    """Calls ``before`` or ``after`` the step of one iteration."""

    def __init__(self, iteration, *, before=None, after=None):
        self.iteration, self.before, self.after = iteration, before, after

    def before_step(self):
        if self.before and self.trainer.iter == self.iteration:
            self.before()

    def after_step(self):
        if self.after and self.trainer.iter == self.iteration:
            self.after()


def augment(record: dict) -> dict:
    shift = random.random() + np.random.rand() + torch.rand(()).item()
    record["x"] = torch.tensor(record["x"]) + 0.1 * shift
    record["y"] = torch.tensor(record["y"])
    return record


@dataclass
class TinyTraining:
    directory: Path
    model: TinyModel
    trainer: Trainer
    average: WeightAverage | None
    checkpointer: RunCheckpointer

    def run(self, start: int, stop: int) -> "TinyTraining":
        self.trainer.train(start, stop)
        return self

    def resume(self, stop: int) -> "TinyTraining":
        return self.run(self.checkpointer.resume(), stop)

    def everything(self) -> dict[str, Tensor]:
        """All that a resumed training must agree on, bit for bit."""
        found = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for index, state in self.trainer.optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
        if self.average is not None:
            found |= {f"ema.{k}": v for k, v in self.average.model.state_dict().items()}
        return found


def tiny_training(
    directory,
    *,
    period: int = 2,
    ema: bool = True,
    num_workers: int = 0,
    accumulate_steps: int = 2,
    max_to_keep: int | None = 3,
    model: nn.Module | None = None,
    extra_hooks=(),
    **options,
) -> TinyTraining:
    """Seven images, four per step; Detectron2's own schedule hook, checkpoints every ``period`` iterations."""
    rng = np.random.RandomState(0)
    dataset = [
        {"file_name": f"{i}.jpg", "x": rng.rand(3).astype("float32"), "y": np.float32(rng.rand())}
        for i in range(7)
    ]
    model = model or TinyModel()
    average = WeightAverage(model, decay=0.9) if ema else None
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    trainer = Trainer(
        model=model,
        loader=TrainLoader(
            dataset=dataset, mapper=augment, total_batch_size=4, num_workers=num_workers, seed=5
        ),
        optimizer=optimizer,
        clip_grad_norm=1.0,
        accumulate_steps=accumulate_steps,
        average=average,
        seed=5,
        **options,
    )
    checkpointer = RunCheckpointer(
        directory=str(directory),
        model=model,
        trainer=trainer,
        average=average,
        info=ModelInfo(model={"_target_": "smca.modeling.SMCA"}, class_names=("a", "b")),
        max_to_keep=max_to_keep,
    )
    trainer.register_hooks(
        [
            hooks.LRScheduler(scheduler=CosineParamScheduler(1.0, 0.1)),
            CheckpointHook(checkpointer, period),
            *extra_hooks,
        ]
    )
    return TinyTraining(Path(directory), model, trainer, average, checkpointer)


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    different = [name for name in found if not torch.equal(found[name], expected[name])]
    assert not different
