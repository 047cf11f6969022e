"""One run of the study, from its plan to the record that is kept of it."""

import json
import math
import shutil
import subprocess
import time
from pathlib import Path

import detectron2
import torch
from detectron2.config import LazyCall
from omegaconf import DictConfig

import smca
from smca import model_zoo
from smca.analysis.table import machine_name
from smca.engine import NonFiniteError, RunInputs, prepare_training, start_run, unlock_runs
from smca.experiments import apply_overrides

from . import data
from .backbone import pretrained_backbone
from .plan import Run
from .variants import VARIANTS

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")
_CLOCKS = ("study/seconds", "study/cpu_seconds")


class RememberingMapper:
    """Keeps what a mapper made of each image: for images that come without augmentation, and fit into memory."""

    def __init__(self, mapper):
        self.mapper = mapper
        self._made: dict[str, dict] = {}

    def __call__(self, record: dict) -> dict:
        name = record["file_name"]
        if name not in self._made:
            self._made[name] = self.mapper(record)
        return dict(self._made[name])


def experiment(
    run: Run, *, output_dir: Path, device: str = "auto", backbone: Path | None = None
) -> DictConfig:
    """The config of a run; ``backbone`` is the checkpoint that it starts from."""
    cfg = apply_overrides(
        model_zoo.get_config(VARIANTS[run.variant].experiment),
        [
            *run.overrides(),
            f"train.output_dir={output_dir}",
            f"train.device={device}",
            f"train.init_checkpoint={backbone or ''}",
            # A stopped run goes on from here.
            f"train.checkpointer.period={max(run.steps // 10, 1)}",
            "train.log_period=20",
            "dataloader.test.num_workers=0",
        ],
    )
    cfg.optimizer.lr *= run.factor
    cfg.optimizer.params.backbone_lr *= run.factor
    if cfg.dataloader.test.batch_size > 1:
        cfg.dataloader.test.batch_size = 50
    for split in ("train", "test"):
        loader = cfg.dataloader[split]
        loader.mapper = LazyCall(RememberingMapper)(mapper=loader.mapper)
    return cfg


def train(run: Run, *, output_dir: Path, threads: int, device: str = "auto") -> dict:
    """Train and evaluate, or go on where an earlier call was stopped.

    Args:
        run: what to train.
        output_dir: of the training; it is removed at the end, but for the model, which stays beside it.
        threads: of PyTorch.
        device: "auto", or as in ``train.device``.

    Returns:
        What is kept of the run, plain data; "diverged" is in it where the training ended with a number that is not
        finite.

    Raises:
        InputError: another process does this run.
    """
    torch.set_num_threads(threads)
    data.register()
    backbone = sha256 = None
    if VARIANTS[run.variant].pretrained:
        depth, stem_channels = run.setting.backbone
        backbone = output_dir.parent / f"backbone_{depth}_{stem_channels}.pth"
        sha256 = pretrained_backbone(backbone, depth=depth, stem_channels=stem_channels)
    cfg = experiment(run, output_dir=output_dir, device=device, backbone=backbone)
    inputs = RunInputs(cfg, training=True)
    diverged = None
    try:
        start_run(inputs, resume=True, terminal=_only_warnings)
        trainer, first, last = prepare_training(inputs, resume=True)
        _count_time(trainer, read_metrics(output_dir), first)
        try:
            trainer.train(first, last)
        except NonFiniteError as error:
            diverged = str(error)
        record = {
            "run": {
                "part": run.part, "variant": run.variant, "seed": run.seed, "factor": run.factor,
                "steps": run.steps, "images": run.setting.images,
            },
            "config": {
                "experiment": VARIANTS[run.variant].experiment,
                "overrides": run.overrides(),
                "lr": cfg.optimizer.lr,
                "backbone_lr": cfg.optimizer.params.backbone_lr,
                "backbone_sha256": sha256,
            },
            "machine": machine_name(inputs.device),
            "device": inputs.device.type,
            "threads": threads,
            "versions": {
                "torch": torch.__version__, "detectron2": detectron2.__version__, "smca": smca.__version__,
            },
            "parameters": sum(p.numel() for p in inputs.model.parameters() if p.requires_grad),
            **outcome(read_metrics(output_dir), steps=run.steps, diverged=diverged),
        }  # fmt: skip
    finally:
        unlock_runs()
    model = output_dir / "model_final.pth"
    if model.is_file():
        # To be looked at, predicted with, exported.
        model.replace(output_dir.with_name(f"{output_dir.name}.pth"))
    shutil.rmtree(output_dir)
    return record


def outcome(metrics: list[dict], *, steps: int, diverged: str | None) -> dict:
    """Curve, losses and times of a training, from the lines of its ``metrics.json``."""
    curve = [
        {
            "step": line["iteration"] + 1,
            "seconds": round(line[_CLOCKS[0]], 2),
            "cpu_seconds": round(line[_CLOCKS[1]], 2),
            **{name: _percent(line.get(f"bbox/{name}")) for name in METRICS},
        }
        for line in metrics
        if "bbox/AP" in line
    ]
    losses = [line["total_loss"] for line in metrics if "total_loss" in line]
    result = {
        "curve": curve,
        "loss_first": round(losses[0], 3) if losses else None,
        "loss_last": round(losses[-1], 3) if losses else None,
    }
    if diverged is not None:
        result["diverged"] = diverged
        last = metrics[-1] if metrics else {}
        end = {"step": steps, **dict.fromkeys(METRICS, 0.0)}
        clocks = zip(("seconds", "cpu_seconds"), _CLOCKS, strict=True)
        curve.append({**end, **{key: round(last.get(clock, 0.0), 2) for key, clock in clocks}})
    return result


def read_metrics(output_dir: Path) -> list[dict]:
    """Numbers of a training by rising iteration."""
    path = output_dir / "metrics.json"
    by_iteration: dict[int, dict] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        numbers = json.loads(line)
        by_iteration.setdefault(numbers["iteration"], {}).update(numbers)
    return [by_iteration[iteration] for iteration in sorted(by_iteration)]


def commit_of_code() -> dict:
    """Commit of the checkout, and whether what it tracks was changed since."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}
    return {"commit": commit, "changed": changed}


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    output = subprocess.run(
        ["git", *arguments], cwd=here, check=True, capture_output=True, text=True
    )
    return output.stdout.strip()


def _count_time(trainer, metrics: list[dict], first: int) -> None:
    """Have every step's time, without evaluations and checkpoints, in the records, from where a resumed run was."""
    before = [line for line in metrics if line["iteration"] < first and _CLOCKS[0] in line]
    total = [before[-1][clock] if before else 0.0 for clock in _CLOCKS]
    step = trainer.run_step

    def timed_step() -> None:
        start = time.perf_counter(), time.process_time()
        step()
        if trainer.optimizer.param_groups[0]["params"][0].is_cuda:
            torch.cuda.synchronize()
        total[0] += time.perf_counter() - start[0]
        total[1] += time.process_time() - start[1]
        values = dict(zip(_CLOCKS, total, strict=True))
        trainer.storage.put_scalars(**values, smoothing_hint=False)

    trainer.run_step = timed_step


def _percent(value: float | None) -> float | None:
    """A metric; none where there was nothing to measure it on."""
    return None if value is None or not math.isfinite(value) else round(value, 3)


def _only_warnings(handler) -> None:
    handler.setLevel("WARNING")
