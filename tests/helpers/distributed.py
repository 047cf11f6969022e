"""What processes of a distributed test run; imported by each of them."""

import itertools
import json
import math
import os
import signal
import warnings
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from omegaconf import OmegaConf
from torch import nn

from smca.data import DigitsSpec, TrainLoader, build_test_loader, register_digits
from smca.engine import CheckpointHook, RunCheckpointer, Trainer, WeightAverage
from smca.engine.early_stopping import EarlyStoppingHook
from smca.engine.training import _distribute
from smca.errors import InputError
from smca.evaluation import CocoEvaluator, EvaluationHook

from .builders import small_model


def make_images(counts: list[int]) -> list[dict]:
    """Images of one size (so that batching pads none) with so many objects each."""
    generator = torch.Generator().manual_seed(3)
    images = []
    for index, count in enumerate(counts):
        corners = torch.rand(count, 2, 2, generator=generator) * 0.4
        boxes = torch.cat([corners[:, 0], corners[:, 0] + 0.1 + corners[:, 1]], dim=1)
        instances = Instances((96, 128))
        instances.gt_boxes = Boxes(boxes * torch.tensor([128.0, 96, 128, 96]))
        instances.gt_classes = torch.randint(0, 3, (count,), generator=generator)
        pixels = torch.rand(3, 96, 128, generator=generator) * 255
        images.append({"image": pixels, "instances": instances, "file_name": f"{index}.jpg"})
    return images


def save_gradients(path: str, counts: list[int], accumulate_steps: int, name: str = "smca") -> None:
    """One step of the trainer on all images, with a learning rate of 0; the main process saves what it saw."""
    torch.manual_seed(0)
    model = small_model(name, norm="FrozenBN")
    if name.startswith("smca_plus"):
        # Noise is of its own in every process and pass.
        model.decoder.query_embedding.box_noise = model.decoder.query_embedding.label_noise = 0.0
    wrapped = model
    if comm.get_world_size() > 1:
        wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    trainer = Trainer(
        model=wrapped,
        loader=TrainLoader(
            dataset=make_images(counts), mapper=dict, total_batch_size=len(counts), num_workers=0
        ),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
        accumulate_steps=accumulate_steps,
    )
    trainer.train(0, 1)
    if comm.is_main_process():
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        loss = trainer.storage.latest()["total_loss"][0]
        torch.save({"gradients": gradients, "loss": loss}, path)


def fail_in_one_process(rank: int) -> None:
    """A cost matrix that is not finite in one process only; the others must not wait for it."""
    images = make_images([2, 3])
    model = small_model("smca", norm="FrozenBN")
    if comm.get_rank() == rank:
        for image in images:
            image["instances"].gt_boxes.tensor.fill_(float("nan"))
    trainer = Trainer(
        model=torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False),
        loader=TrainLoader(dataset=images, mapper=dict, total_batch_size=2, num_workers=0),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.0),
    )
    try:
        trainer.train(0, 1)
    except FloatingPointError as error:
        # Every process says which images; the status shows that it got here.
        named = "not finite" in str(error) and ".jpg" in str(error)
        raise SystemExit(7 if named else 8) from None


class JitteredTruth(torch.nn.Module):
    """A detector that knows the boxes, and misses them by an amount that follows from the image."""

    def forward(self, batch: list[dict]) -> list[dict]:
        results = []
        for item in batch:
            generator = torch.Generator().manual_seed(item["image_id"])
            boxes = torch.tensor([a["bbox"] for a in item["annotations"]]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            found = Instances((item["height"], item["width"]))
            found.pred_boxes = Boxes(boxes + torch.randn(boxes.shape, generator=generator) * 2)
            found.scores = torch.rand(len(boxes), generator=generator)
            found.pred_classes = torch.tensor(
                [a["category_id"] for a in item["annotations"]]
            ).long()
            results.append({"instances": found})
        return results


def evaluate_jittered_boxes(path: str, root: str) -> None:
    register_digits(root, spec=DigitsSpec(train_images=1, val_images=7))
    loader = build_test_loader(
        dataset=DatasetCatalog.get("digits_val"), mapper=dict, batch_size=2, num_workers=0
    )
    results = inference_on_dataset(JitteredTruth(), loader, CocoEvaluator("digits_val"))
    if comm.is_main_process():
        numbers = {k: v for k, v in results["bbox"].items() if not math.isnan(v)}
        Path(path).write_text(json.dumps(numbers))


class _Dropped(torch.nn.Module):
    """Norm and dropout; parameters differ between processes until a wrapper makes them equal."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3, momentum=0.5)
        self.dropout = torch.nn.Dropout(0.5)
        self.scale = torch.nn.Parameter(torch.full((3,), 1.0 + comm.get_rank()))

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        x = torch.stack([item["x"] for item in batch])
        self.kept = self.dropout(torch.ones(64)) > 0
        return {"loss": (self.norm(x) * self.scale).square().mean()}


def train_with_norm_and_dropout(folder: str) -> None:
    """Three steps with EMA and checkpoints; every process writes what it ends with."""
    data = [{"x": torch.full((3,), float(i * i)), "file_name": f"{i}.jpg"} for i in range(8)]
    cfg = OmegaConf.create({"broadcast_buffers": False, "find_unused_parameters": False})
    model = _Dropped()
    model.device = torch.device("cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped = _distribute(model, cfg)
    average = WeightAverage(model, decay=0.5)
    trainer = Trainer(
        model=wrapped,
        loader=TrainLoader(dataset=data, mapper=dict, total_batch_size=8, num_workers=0),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        average=average,
    )
    checkpointer = RunCheckpointer(
        directory=folder, model=model, trainer=trainer, average=average, max_to_keep=None
    )
    trainer.register_hooks([CheckpointHook(checkpointer, 1)])
    trainer.train(0, 3)
    state = {"model": model.state_dict(), "ema": average.model.state_dict(), "kept": model.kept}
    torch.save(state, f"{folder}/rank{comm.get_rank()}.pth")


def fail_to_load_in_one_process(folder: str, how: str) -> None:
    """Rank 1 cannot read an image in iteration 2, or is killed, as for lack of memory."""

    def load(record: dict) -> dict:
        if record["number"] == comm.get_rank() == 1 and trainer.iter == 2:
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise InputError("broken.jpg: it is cut off")
        return {"x": torch.ones(3), "file_name": "x.jpg"}

    data = [{"number": i} for i in range(2)]
    model = _Dropped()
    trainer = Trainer(
        model=torch.nn.parallel.DistributedDataParallel(model),
        # Each process loads both images.
        loader=TrainLoader(dataset=data, mapper=load, total_batch_size=4, num_workers=0),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    checkpointer = RunCheckpointer(directory=folder, model=model, trainer=trainer)
    trainer.register_hooks([CheckpointHook(checkpointer, 0)])
    try:
        trainer.train(0, 5)
    except ValueError as error:
        raise SystemExit(f"train: {error}") from None


class _BadCost(nn.Module):
    """As a matcher does, it refuses a batch that says so."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, batch: list[dict]) -> dict[str, torch.Tensor]:
        if any(item["is_bad"] for item in batch):
            raise FloatingPointError("the matching cost is not finite")
        return {"loss": sum((self.scale * item["x"]).sum() for item in batch)}


def skip_a_bad_pass(folder: str, accumulate_steps: int) -> None:
    """Rank 1's last forward pass of the second step fails; each process writes its parameters at the end."""

    def load(record: dict) -> dict:
        number = record["number"]
        is_bad = trainer.iter == 1 and comm.get_rank() == 1 and next(passes) == accumulate_steps - 1
        return {"x": torch.full((3,), 1.0 + number), "file_name": "x.jpg", "is_bad": is_bad}

    passes = itertools.count()
    model = _BadCost()
    trainer = Trainer(
        model=torch.nn.parallel.DistributedDataParallel(model),
        loader=TrainLoader(
            dataset=[{"number": i} for i in range(4)],
            mapper=load,
            total_batch_size=2 * accumulate_steps,
            num_workers=0,
        ),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        accumulate_steps=accumulate_steps,
        skip_nonfinite=2,
    )
    trainer.train(0, 4)
    torch.save(model.scale.detach(), f"{folder}/rank{comm.get_rank()}.pth")


def end_early(folder: str) -> None:
    """A training whose evaluation gets worse; each process writes which step was its last."""
    data = [{"x": torch.ones(3), "file_name": f"{i}.jpg"} for i in range(4)]
    model = _Dropped()
    trainer = Trainer(
        model=torch.nn.parallel.DistributedDataParallel(model),
        loader=TrainLoader(dataset=data, mapper=dict, total_batch_size=4, num_workers=0),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    checkpointer = RunCheckpointer(directory=folder, model=model, trainer=trainer)
    evaluation = EvaluationHook(
        period=2,
        # As everywhere, the main process alone has results.
        evaluate=lambda: {"bbox": {"AP": -trainer.iter}} if comm.is_main_process() else {},
        iters_per_epoch=1,
        output_dir=folder,
    )
    stopping = EarlyStoppingHook(evaluation=evaluation, checkpointer=checkpointer, patience=3)
    trainer.register_hooks([CheckpointHook(checkpointer, 2), evaluation, stopping])
    trainer.train(0, 20)
    Path(folder, f"rank{comm.get_rank()}.txt").write_text(str(trainer.iter))
