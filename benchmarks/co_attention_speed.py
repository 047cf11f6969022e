#!/usr/bin/env python
"""Co-attention with the prior beside the same without it and written out.

    python benchmarks/co_attention_speed.py

Shapes of an image of 800x1066, batch 2, 300 queries, 8 heads of 32 channels, forward and backward, no dropout, after
the projections. The forms: the package's, which adds the prior's two terms in blocks; without the prior; the prior as a
bias of every cell; softmax(QK^T / sqrt(d) + log G) in plain PyTorch; and the prior as four more channels of query and
key, for it is linear in (x^2, x, y^2, y) but for what a softmax does not see. The package's and the bias again with
the recipe's dropout.
"""

import math

import torch
from speed_harness import attention_kernels, benchmark_arguments, compare, peak_memory_mb, store
from torch import Tensor
from torch.nn import functional as F

from smca.layers import MultiheadAttention, gaussian_log_prior, separable_log_prior

BATCH, HEADS, QUERIES, CHANNELS, BETA = 2, 8, 300, 32, 8.0
LEVELS = {"single-scale": [(25, 34)]}
DROPOUT = 0.1
OURS, WITHOUT, BIAS, PLAIN = "ours", "without prior", "prior as a bias", "written out"
AS_CHANNELS = "prior as channels"
WITH_DROPOUT = {f"{form}, dropout": form for form in (OURS, BIAS)}
FORMS = (OURS, WITHOUT, BIAS, PLAIN, AS_CHANNELS, *WITH_DROPOUT)


def main() -> None:
    args = benchmark_arguments(__doc__, "co_attention_speed.json")
    settings = {"rounds": args.rounds, "clock": args.clock}
    report = {}
    for name, sizes in LEVELS.items():
        calls = {form: co_attention(form, sizes) for form in FORMS}
        times = compare(calls, baseline=WITHOUT, **settings)
        for form, call in calls.items():
            times[form]["kernels"] = attention_kernels(call)
            if args.memory:
                times[form]["peak_mb"] = round(peak_memory_mb(co_attention, form, sizes), 1)
        report[name] = times
    report["largest difference of a gradient or output"] = largest_difference()
    store(args.output, report, **settings)
    print(report)


def drawn_inputs(sizes: list[tuple[int, int]], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Query, centre (x, y) and scale of every query and head, then key and value of every level."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(BATCH, *shape, generator=generator, dtype=dtype)

    center = drawn(QUERIES, HEADS, 2).sigmoid() * torch.tensor([sizes[0][1], sizes[0][0]])
    scale = 1 + 0.3 * drawn(QUERIES, HEADS, 2)
    levels = [drawn(HEADS, h * w, CHANNELS) for h, w in sizes for _ in range(2)]
    inputs = [drawn(HEADS, QUERIES, CHANNELS), center.to(dtype), scale, *levels]
    return [x.requires_grad_() for x in inputs]


def outputs(form: str, sizes: list[tuple[int, int]], inputs: list[Tensor]) -> Tensor:
    """Sum over levels, (B, H, Q, D)."""
    query, center, scale, *levels = inputs
    dropout = DROPOUT if form in WITH_DROPOUT else 0.0
    form = WITH_DROPOUT.get(form, form)
    module = MultiheadAttention(HEADS * CHANNELS, HEADS, dropout)
    total = 0.0
    for size, key, value in zip(sizes, levels[::2], levels[1::2], strict=True):
        at = center * (size[0] / sizes[0][0])
        if form == WITHOUT:
            heads = F.scaled_dot_product_attention(query, key, value)
        elif form == OURS:
            bias = separable_log_prior(at, scale, size, beta=BETA)
            heads = module.attend(query, key, value, bias)
        elif form == BIAS:
            bias = gaussian_log_prior(at, scale, size, beta=BETA)
            heads = F.scaled_dot_product_attention(
                query, key, value, attn_mask=bias, dropout_p=dropout
            )
        elif form == PLAIN:
            logits = query @ key.mT / math.sqrt(CHANNELS) + written_out_prior(at, scale, size)
            heads = logits.softmax(-1) @ value
        else:
            heads = attention_with_channels(query, key, value, at, scale, size)
        total = total + heads
    return total


def written_out_prior(center: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    """Equation (4) cell by cell, as :func:`gaussian_log_prior` takes and gives it."""
    rows, columns = (torch.arange(n, dtype=center.dtype) for n in size)
    cells = torch.stack([columns.repeat(size[0]), rows.repeat_interleave(size[1])], -1)
    distance = cells - center.transpose(1, 2)[..., None, :]
    return -(distance.square() * scale.transpose(1, 2)[..., None, :].square()).sum(-1) / BETA


def attention_with_channels(
    query: Tensor, key: Tensor, value: Tensor, center: Tensor, scale: Tensor, size: tuple[int, int]
) -> Tensor:
    """-(x - c)^2 s^2 / beta = s^2 (-x^2 + 2 c x) / beta + what a softmax does not see, x from the map's middle.

    Four channels do; query, key and value get the same width, a multiple of 8, as fused kernels want it.
    """
    middle = torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2], dtype=key.dtype)
    rows, columns = (torch.arange(n, dtype=key.dtype) - (n - 1) / 2 for n in size)
    cells = torch.stack([columns.repeat(size[0]), rows.repeat_interleave(size[1])], -1)
    square = scale.transpose(1, 2).square() * (math.sqrt(CHANNELS) / BETA)
    of_query = torch.cat([-square, 2 * square * (center.transpose(1, 2) - middle)], -1)
    of_key = torch.cat([cells.square(), cells], -1).expand(*key.shape[:2], -1, -1)
    query, key = torch.cat([query, of_query], -1), torch.cat([key, of_key], -1)
    query, key, value = (F.pad(x, (0, CHANNELS + 8 - x.shape[-1])) for x in (query, key, value))
    heads = F.scaled_dot_product_attention(query, key, value, scale=1 / math.sqrt(CHANNELS))
    return heads[..., :CHANNELS]


def co_attention(form: str, sizes: list[tuple[int, int]]):
    inputs = drawn_inputs(sizes)

    def call() -> None:
        for x in inputs:
            x.grad = None
        outputs(form, sizes, inputs).sum().backward()

    return call


def largest_difference() -> dict[str, float]:
    """To the form with a bias in float64, over the largest value."""
    sizes = LEVELS["single-scale"]
    exact = values_of(BIAS, sizes, torch.float64)
    return {
        f"{form}, {dtype}": max(
            ((a.double() - b).abs().max() / b.abs().max()).item()
            for a, b in zip(values_of(form, sizes, dtype), exact, strict=True)
        )
        for form, dtype in (
            (AS_CHANNELS, torch.float64),
            (AS_CHANNELS, torch.float32),
            (OURS, torch.float64),
            (OURS, torch.float32),
            (BIAS, torch.float32),
        )
    }


def values_of(form: str, sizes: list[tuple[int, int]], dtype: torch.dtype) -> list[Tensor]:
    """Output and the gradients of its sum of squares."""
    inputs = [x.detach().to(dtype).requires_grad_() for x in drawn_inputs(sizes)]
    result = outputs(form, sizes, inputs)
    return [result.detach(), *torch.autograd.grad(result.square().sum(), inputs)]


if __name__ == "__main__":
    main()
