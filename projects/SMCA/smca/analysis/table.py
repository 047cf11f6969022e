"""Analysed experiments as tables for a terminal or a README, and as data.

Ours and the paper's numbers never share a column.
"""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path

import torch
from tabulate import tabulate

from smca.version import __version__

from .complexity import PARTS
from .experiment import Experiment
from .paper import time_ratio

_MISSING = "–"
# Title, value and decimals; None of them writes the number as it is.
_Column = tuple[str, Callable[[Experiment], float | None], int | None]

_IN_PAPER: tuple[_Column, ...] = tuple(
    (f"paper: {title}", attrgetter(f"paper.{key}"), None)
    for title, key in {
        "epochs": "epochs", "AP": "ap", "AP50": "ap50", "AP75": "ap75", "APS": "ap_s", "APM": "ap_m", "APL": "ap_l",
    }.items()
)  # fmt: skip
_IN_RELEASE: tuple[_Column, ...] = tuple(
    (f"release: {title}", attrgetter(f"released.{key}"), None)
    for title, key in {"AP": "ap", "APS": "ap_s", "APM": "ap_m", "APL": "ap_l"}.items()
)


def format_tables(experiments: Sequence[Experiment], *, markdown: bool = False) -> str:
    """Size and cost (ours, then the paper's), the paper's accuracy, the releases', and how to read them."""
    measured = any(e.latency is not None for e in experiments)
    style = "pipe" if markdown else "simple"
    blocks = [_table(experiments, _cost_columns(measured), style), _notes(experiments, measured)]
    in_paper = [e for e in experiments if e.paper is not None]
    if in_paper:
        blocks += [
            "Box AP on COCO val2017, all numbers the paper's:",
            _table(in_paper, _IN_PAPER, style, with_size=False),
        ]
    released = [e for e in experiments if e.released is not None]
    if released:
        blocks += [
            "Box AP on COCO val2017 as the authors report it of what they released:",
            _table(released, _IN_RELEASE, style, with_size=False),
        ]
    return "\n\n".join(blocks)


def as_data(experiments: Sequence[Experiment], device: torch.device) -> dict:
    """The same as plain containers; what the paper says is under "paper" and nowhere else."""
    rows = []
    for e in experiments:
        ours = asdict(e.complexity)
        ours["latency"] = None if e.latency is None else asdict(e.latency)
        paper = None if e.paper is None else {**asdict(e.paper), "time_ratio": time_ratio(e.paper)}
        rows.append({"config": e.name, "input_size": list(e.size), "ours": ours, "paper": paper})
        if e.released is not None:
            rows[-1]["released"] = asdict(e.released)
    return {
        "machine": machine_name(device),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "smca": __version__,
        "experiments": rows,
    }


def describe_environment(device: torch.device) -> str:
    """Machine, versions and threads in one line."""
    return (
        f"{machine_name(device)}; smca {__version__}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} CPU thread(s)"
    )


def machine_name(device: torch.device) -> str:
    """Model of the GPU, or of the CPU and its number of cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores"


def _cost_columns(measured: bool) -> list[_Column]:
    columns: list[_Column] = [
        ("M trainable", lambda e: sum(e.complexity.trainable.values()) / 1e6, 2),
        ("M total", lambda e: sum(e.complexity.total.values()) / 1e6, 2),
    ]
    columns += [(part, _part(part), 2) for part in PARTS]
    columns += [
        ("GFLOPs", lambda e: e.complexity.multiply_adds / 1e9, 1),
        ("act. MiB", lambda e: e.complexity.activation_bytes / 2**20, 0),
        ("act. MiB, fused", lambda e: e.complexity.fused_activation_bytes / 2**20, 0),
    ]
    if measured:
        columns += [
            ("time, s", lambda e: e.latency and e.latency.seconds, 3),
            ("time / DETR", lambda e: e.latency and e.latency.ratio, 2),
        ]
    return [
        *columns,
        ("paper: M", lambda e: e.paper and e.paper.params, None),
        ("paper: GFLOPs", lambda e: e.paper and e.paper.gflops, None),
        ("paper: time / DETR", lambda e: time_ratio(e.paper), 2),
    ]


def _part(part: str) -> Callable[[Experiment], float]:
    return lambda e: e.complexity.trainable[part] / 1e6


def _table(
    experiments: Sequence[Experiment],
    columns: Sequence[_Column],
    style: str,
    *,
    with_size: bool = True,
) -> str:
    headers = ["config", *(["input"] if with_size else []), *(title for title, _, _ in columns)]
    rows = []
    for e in experiments:
        size = [f"{e.size[0]}x{e.size[1]}"] if with_size else []
        cells = (_cell(value(e), digits) for _, value, digits in columns)
        rows.append([e.name, *size, *cells])
    align = ["left"] * (2 if with_size else 1) + ["right"] * len(columns)
    return tabulate(rows, headers, tablefmt=style, colalign=align, disable_numparse=True)


def _cell(value: float | None, digits: int | None) -> str:
    if value is None:
        return _MISSING
    return str(value) if digits is None else f"{value:.{digits}f}"


def _notes(experiments: Sequence[Experiment], measured: bool) -> str:
    notes = [
        'Columns without "paper:" are counted here: parameters in millions, those of the parts '
        "trainable ones; GFLOPs are giga multiply-adds of one image of the input size, inference, "
        "attention counted as matrix products; act. is what one training image keeps for the "
        "backward pass in float32, without the loss: with PyTorch's plain attention, which keeps "
        "the attention weights, and with a fused kernel, which does not.",
        "The paper's GFLOPs are averages over COCO val2017, whose mean image is larger than "
        "800x1066: compare ratios. Its times are of one V100.",
    ]
    if any("faster_rcnn" in e.name for e in experiments):
        notes.append(
            "Faster R-CNN's box head is counted for as many boxes as its proposals may hand on "
            "(1000 in inference, as many as are sampled in training), and its backbone for the "
            "image padded to a multiple of 32."
        )
    if measured:
        notes.append(
            "Times are ours, of untrained weights, batch 1, pixels to detections, all models in "
            "turns in one run; the ratio is the median over the rounds to published DETR at the "
            "same input size."
        )
    return "\n\n".join(notes)
