#!/usr/bin/env python
"""What a GPU does: training and latency in bfloat16, compiled and not, the share of its peak, and what takes the time.

    python benchmarks/gpu_speed.py                                       # a GPU, at most ten minutes
    python benchmarks/gpu_speed.py --batches 1 --steps 1 --minutes 5     # slowly on a CPU, to see that it works

Training is whole steps of the project's trainer on images of noise of COCO's sizes, with larger and larger batches
until they are no faster or do not fit. The peak is measured, too: products of large matrices. Operations are those of
convolutions and matrix products of a step, forward and backward, counted on the padded batch. What does not fit into
the time is left out and named.
"""

import argparse
import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contestants import OF_THE_ZOO, prediction
from detectron2.config import instantiate
from drawn import drawn_image, keep_in_range
from speed_harness import RESULTS, matmul_peak, store, synchronize, timed
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from smca import model_zoo
from smca.compilation import compile_parts
from smca.data import TrainLoader
from smca.engine import MixedPrecision, Trainer
from smca.engine.trainer import StepError

MODELS = ("SMCA single-scale", "SMCA")
COCO_IMAGES, EPOCHS = 118_287, 50
# The paper's GPUs were V100s.
PAPER_GPU_HOURS = {"SMCA single-scale": 265, "SMCA": 600}
# (height, width) of COCO's images as training resizes them.
SIZES = [
    *[(480, 640), (608, 810), (704, 938), (800, 1066), (800, 1201)],
    *[(1066, 800), (640, 853), (512, 768)],
]
WARM_UP = 3
LEAST_GAIN = 1.05
"""In images per second; a larger batch that brings less ends the search."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0, help="begin nothing after this time")
    parser.add_argument("--batches", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, default=8, help="measured steps of a batch size")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--output", type=Path, default=RESULTS / "gpu_speed.json")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    end = time.monotonic() + 60 * args.minutes
    report: dict[str, Any] = {"peak_tflops": matmul_peak(device, torch.bfloat16), "left_out": []}
    print(f"matrix products in bfloat16: {report['peak_tflops']:.1f} TFLOP/s", flush=True)
    # Least first: what is compiled takes minutes before it is measured.
    for compiled in (False, True):
        for name in args.models:
            label = f"{name}, compiled" if compiled else name
            tasks = {
                "latency": partial(latency, name, device, compiled),
                "training": partial(
                    training, name, device, compiled, args, report["peak_tflops"], end
                ),
            }
            if not compiled:
                tasks["profile"] = partial(largest_items, name, device, args.batches[0])
            for what, task in tasks.items():
                if time.monotonic() > end:
                    report["left_out"].append(f"{what} of {label}")
                    continue
                report.setdefault(what, {})[label] = task()
                print(f"{what} of {label}: {report[what][label]}", flush=True)
                store(args.output, report, steps=args.steps)
                free(device)
    store(args.output, report, steps=args.steps)
    if report["left_out"]:
        print("no time was left for:", *report["left_out"], sep="\n  ")


def latency(name: str, device: torch.device, compiled: bool) -> dict[str, float]:
    """Milliseconds of an image of 800x1066, pixels to detections, batch 1."""
    call = prediction(name, precision="bfloat16", device=device, compiled=compiled)
    rounds = 30 if device.type == "cuda" else 2
    seconds = timed(call, device, warm_up=WARM_UP, rounds=rounds)
    return {"ms": round(1000 * statistics.median(seconds), 2)}


def training(
    name: str,
    device: torch.device,
    compiled: bool,
    args: argparse.Namespace,
    peak: float,
    end: float,
) -> dict[str, Any]:
    """Images a second by batch size, and of the best one the share of the peak and the hours of 50 epochs."""
    by_batch: dict[int, dict[str, float]] = {}
    for batch in args.batches:
        if by_batch and time.monotonic() > end:
            break
        try:
            by_batch[batch] = measure_steps(name, device, compiled, batch, args.steps)
        except StepError as error:
            if not isinstance(error.__cause__, torch.OutOfMemoryError):
                raise
            break
        finally:
            free(device)
        rates = [row["images_per_second"] for row in by_batch.values()]
        if len(rates) > 1 and rates[-1] < LEAST_GAIN * max(rates[:-1]):
            break
    if not by_batch:
        return {"error": "out of memory"}
    best = max(by_batch.values(), key=lambda row: row["images_per_second"])
    rate = best["images_per_second"]
    return {
        "by_batch": by_batch,
        "images_per_second": rate,
        "share_of_peak": round(rate * best["gflop_per_image"] / 1000 / peak, 3),
        "gpu_hours_50_epochs": round(COCO_IMAGES * EPOCHS / rate / 3600, 1),
        "paper_v100_hours": PAPER_GPU_HOURS[name],
    }


def measure_steps(
    name: str, device: torch.device, compiled: bool, batch: int, steps: int
) -> dict[str, float]:
    """Whole steps of the trainer on other images each time."""
    seconds: list[float] = []
    with stepping(name, device, batch, compiled=compiled) as (trainer, train):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        step = trainer.run_step

        def timed_step() -> None:
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            if trainer.iter >= WARM_UP:
                seconds.append(time.perf_counter() - start)

        trainer.run_step = timed_step
        train(WARM_UP + steps)
        memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return {
        "images_per_second": round(batch / statistics.median(seconds), 2),
        "peak_gib": round(memory, 2),
        "gflop_per_image": round(operations(name, device, batch) / batch / 1e9, 1),
    }


def operations(name: str, device: torch.device, batch: int) -> int:
    """Of a step of as many images, on the average over as many steps as there are sizes."""
    steps = len(SIZES) // min(batch, len(SIZES))
    # Of a CPU's fused kernel nothing is counted.
    kernel = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else contextlib.nullcontext()
    with (
        stepping(name, device, batch) as (_, train),
        kernel,
        FlopCounterMode(display=False) as counter,
    ):
        train(steps)
    return counter.get_total_flops() // steps


def largest_items(name: str, device: torch.device, batch: int) -> dict[str, Any]:
    """Operators that take most of the device's time in three steps, and how often a step makes the host wait."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with stepping(name, device, batch) as (trainer, train):
        step, profiler = trainer.run_step, profile(activities=activities)

        def profiled_step() -> None:
            if trainer.iter == WARM_UP:
                profiler.start()
            step()
            synchronize(device)

        trainer.run_step = profiled_step
        train(WARM_UP + 3)
        profiler.stop()
        waits = waits_of(train, trainer, step) if device.type == "cuda" else None
    field = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    # Operators with the time of their kernels; the kernels are listed, too, and would count twice.
    operators = (e for e in profiler.key_averages() if e.device_type == DeviceType.CPU)
    events = sorted(operators, key=lambda event: -getattr(event, field))
    total = sum(getattr(event, field) for event in events)
    shares = {event.key: round(getattr(event, field) / total, 3) for event in events[:10]}
    return {"largest": shares, "waits_per_step": waits}


def waits_of(train: Callable[[int], None], trainer: Trainer, step: Callable[[], None]) -> list[str]:
    """What PyTorch says of each synchronisation of host and GPU in a step."""
    trainer.run_step = step
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            train(1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    places = [
        f"{Path(w.filename).name}:{w.lineno}" for w in caught if "synchroniz" in str(w.message)
    ]
    return places


@contextlib.contextmanager
def stepping(
    name: str, device: torch.device, batch: int, *, compiled: bool = False
) -> Iterator[tuple[Trainer, Callable[[int], None]]]:
    """A trainer in bfloat16, and what makes it do so many steps."""
    cfg = model_zoo.get_config(OF_THE_ZOO[name])
    torch.manual_seed(0)
    model = instantiate(cfg.model)
    keep_in_range(model)
    model = model.to(device, memory_format=torch.channels_last)
    if compiled:
        compile_parts(model)
    cfg.optimizer.params.model = model
    trainer = Trainer(
        model=model,
        loader=TrainLoader(dataset=images(), mapper=dict, total_batch_size=batch, num_workers=0),
        optimizer=instantiate(cfg.optimizer),
        clip_grad_norm=cfg.train.clip_grad_norm,
        precision=MixedPrecision(device_type=device.type, dtype="bfloat16"),
    )
    try:
        yield trainer, lambda steps: trainer.train(0, steps)
    finally:
        torch.compiler.reset()


def images() -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    return [
        {**drawn_image(SIZES[index % len(SIZES)], generator), "file_name": f"{index}.jpg"}
        for index in range(64)
    ]


def free(device: torch.device) -> None:
    """What a model held, for the next one."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
