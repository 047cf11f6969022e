#!/usr/bin/env python
"""Attention with dropout in training, blocks against PyTorch's plain and fused kernels: times of turns, peak memory.

    python benchmarks/attention_speed.py --memory

Forward and backward of one attention at the shapes of an 800x1066 image: an encoder block over the cells of stride 16,
and the single-scale encoder in a batch of 2, whose second image is padded. The fused kernel, without dropout, stands
beside.
"""

from functools import partial

import torch
from speed_harness import attention_kernels, benchmark_arguments, compare, peak_memory_mb, store
from torch.nn import functional as F

from smca.layers.chunked_attention import chunked_attention

# Batch, and cells of an image.
SHAPES = {"stride 16": (1, 3350), "stride 32, batch 2": (2, 850)}
DROPOUT, HEADS, CHANNELS, PADDED = 0.1, 8, 32, 75
PLAIN, BLOCKS, FUSED = "plain kernel, dropout", "blocks, dropout", "fused kernel, no dropout"
KERNELS = {
    PLAIN: partial(F.scaled_dot_product_attention, dropout_p=DROPOUT),
    BLOCKS: partial(chunked_attention, dropout=DROPOUT),
    FUSED: F.scaled_dot_product_attention,
}


def main() -> None:
    args = benchmark_arguments(__doc__, "attention_speed.json")
    settings = {"rounds": args.rounds, "clock": args.clock, "dropout": DROPOUT}
    report = {}
    for shape in SHAPES:
        calls = {name: attention(shape, name) for name in KERNELS}
        report[shape] = compare(calls, baseline=PLAIN, rounds=args.rounds, clock=args.clock)
        for name, call in calls.items():
            report[shape][name]["kernels"] = attention_kernels(call)
            if args.memory:
                report[shape][name]["peak_mb"] = round(peak_memory_mb(attention, shape, name), 1)
    store(args.output, report, **settings)


def attention(shape: str, name: str):
    """A call that computes the gradients of one attention."""
    batch, cells = SHAPES[shape]
    torch.manual_seed(0)
    parts = [torch.randn(batch, HEADS, cells, CHANNELS, requires_grad=True) for _ in range(3)]
    options = {}
    if batch > 1:
        allowed = torch.ones(batch, cells, dtype=torch.bool)
        allowed[1, -PADDED:] = False
        options["bias" if name == BLOCKS else "attn_mask"] = allowed[:, None, None]

    def call() -> None:
        torch.autograd.grad(KERNELS[name](*parts, **options).sum(), parts)

    return call


if __name__ == "__main__":
    main()
