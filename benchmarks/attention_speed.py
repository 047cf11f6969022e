#!/usr/bin/env python
"""Attention with dropout in training, blocks against PyTorch's plain kernel: times of turns, and peak memory.

    python benchmarks/attention_speed.py

Forward and backward of one attention at the shapes of an 800x1066 image: an encoder block over the cells of stride 16,
and the single-scale encoder in a batch of 2. PyTorch's kernel without dropout, which is the fused one, stands beside.
Seconds are the process's own, so that other processes count less; variants take turns, ratios are medians over the
rounds. Memory is the resident set's peak, of a process for each variant, less what it had before; Linux only.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import torch
from surroundings import surroundings
from torch.nn import functional as F

from smca.analysis.latency import measure_in_turns, ratio_of_rounds
from smca.layers.chunked_attention import chunked_attention

SHAPES = {"encoder, stride 16": (1, 3350), "encoder, stride 32, batch 2": (2, 850)}
DROPOUT = 0.1
VARIANTS = {
    "plain kernel, dropout": partial(F.scaled_dot_product_attention, dropout_p=DROPOUT),
    "blocks, dropout": partial(chunked_attention, dropout=DROPOUT),
    "fused kernel, no dropout": F.scaled_dot_product_attention,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default="benchmarks/results/attention_speed.json")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        shape, variant = args.memory_of
        print(peak_mib(shape, variant))
        return
    report = {**surroundings(), "repeat": args.repeat, "dropout": DROPOUT, "shapes": {}}
    for shape in SHAPES:
        calls = {name: step(shape, name) for name in VARIANTS}
        seconds = measure_in_turns(calls, repeat=args.repeat, clock=time.process_time)
        plain = seconds["plain kernel, dropout"]
        report["shapes"][shape] = {
            name: {
                "seconds": round(statistics.median(values), 4),
                "fastest and slowest": [round(min(values), 4), round(max(values), 4)],
                "ratio to the plain kernel": round(ratio_of_rounds(values, plain), 3),
                "peak MiB": memory_in_own_process(shape, name, args.threads),
            }
            for name, values in seconds.items()
        }
    Path(args.output).write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["shapes"], indent=1))


def step(shape: str, variant: str):
    batch, cells = SHAPES[shape]
    torch.manual_seed(0)
    parts = [torch.randn(batch, 8, cells, 32, requires_grad=True) for _ in range(3)]

    def call() -> None:
        torch.autograd.grad(VARIANTS[variant](*parts).sum(), parts)

    return call


def peak_mib(shape: str, variant: str) -> int:
    call = step(shape, variant)
    before = resident_peak()
    call()
    return (resident_peak() - before) // 1024


def resident_peak() -> int:
    """KiB. Not of ``getrusage``, which begins with what the parent had."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def memory_in_own_process(shape: str, variant: str, threads: int) -> int:
    command = [sys.executable, __file__, "--threads", str(threads), "--memory-of", shape, variant]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(found.stdout.split()[-1])


if __name__ == "__main__":
    main()
