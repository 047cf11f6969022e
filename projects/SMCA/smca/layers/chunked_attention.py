"""Attention with dropout on a CPU, a block of rows at a time.

PyTorch's fused CPU kernel takes no dropout and no gradient of a bias; the plain one behind it keeps several (Q, N)
matrices per head and draws a random number in 6 ns. Here a block stays in the cache, the backward pass computes it
again, and a dropped weight costs 15 random bits.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .precision import at_least_float32, full_precision

MIN_LOGITS = 1 << 16
"""Per head; below, the calls for each block cost more than they save."""

_BLOCK_LOGITS = 1 << 18
_LEVELS = 1 << 15
"""The probability of dropout is rounded to a multiple of 1 / 32768; kept weights are scaled by what it then is."""


def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention that never holds more than a block of its weights, equation (1).

    Half precision is computed in float32. Random numbers come from a generator seeded by the default one.

    Args:
        query: (B, H, Q, E).
        key: (B, H, N, E).
        value: (B, H, N, D).
        key_bias: (B, N), added to the logits of a key, without a gradient.
        dropout: probability of dropping a weight.

    Returns:
        (B, H, Q, D).
    """
    with full_precision(query):
        parts = (at_least_float32(x) for x in (query, key, value))
        return _ChunkedAttention.apply(*parts, key_bias, dropout).to(query.dtype)


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, key_bias, dropout):
        weights = _Weights(query, key, key_bias, dropout, int(torch.randint(2**62, ())))
        out = value.new_empty(*query.shape[:3], value.shape[-1])
        for at, rows, kept, _ in weights.blocks():
            torch.mm(kept, value[at], out=out[at][rows])
        out.mul_(weights.factor)
        ctx.save_for_backward(query, key, value, key_bias, out)
        ctx.settings = (dropout, weights.seed)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        with full_precision(grad):
            return _ChunkedAttention._gradients(ctx, grad)

    @staticmethod
    def _gradients(ctx, grad):
        query, key, value, key_bias, out = ctx.saved_tensors
        weights = _Weights(query, key, key_bias, *ctx.settings)
        grad = grad.contiguous()
        mean = (grad * out).sum(-1, keepdim=True)
        grads = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        grad_query, grad_key, grad_value = grads
        for at, rows, kept, full in weights.blocks(keep_full=True):
            given = grad[at][rows]
            grad_value[at].addmm_(kept.t(), given, alpha=weights.factor)
            # The kept weights are not needed any more: their place is the gradient's.
            slope = torch.mm(given, value[at].t(), out=kept)
            weights.drop_again(slope)
            slope.mul_(weights.factor).sub_(mean[at][rows]).mul_(full)
            grad_query[at][rows] = torch.mm(slope, key[at]).mul_(weights.scale)
            grad_key[at].addmm_(slope.t(), query[at][rows], alpha=weights.scale)
        return grad_query, grad_key, grad_value, None, None


class _Weights:
    """The softmax of every block, with and without dropout, the same for the same seed."""

    def __init__(self, query, key, key_bias, dropout, seed):
        self.query, self.key, self.key_bias = query, key, key_bias
        self.scale, self.seed = query.shape[-1] ** -0.5, seed
        self.threshold = min(round(dropout * _LEVELS), _LEVELS - 1)
        self.factor = _LEVELS / (_LEVELS - self.threshold)
        self._bits = None
        num_keys = key.shape[2]
        self._rows = max(1, min(query.shape[2], _BLOCK_LOGITS // num_keys))
        self._buffers = [query.new_empty(self._rows, num_keys) for _ in range(3)]
        self._random = torch.empty(self._rows * num_keys // 4 + 1, dtype=torch.int64)
        # Integers as wide as the weights, whose bits they mask.
        self._integer = {4: torch.int32, 8: torch.int64}[query.element_size()]
        self._mask = torch.empty(self._rows, num_keys, dtype=self._integer)

    def blocks(self, *, keep_full: bool = False):
        """Index of the head, rows, weights after dropout (not yet scaled) and, if wanted, before it."""
        generator = torch.Generator().manual_seed(self.seed)
        batch, heads, num_queries, _ = self.query.shape
        for b in range(batch):
            for h in range(heads):
                for start in range(0, num_queries, self._rows):
                    rows = slice(start, min(start + self._rows, num_queries))
                    logits, full, kept = (x[: rows.stop - start] for x in self._buffers)
                    torch.mm(self.query[b, h, rows] * self.scale, self.key[b, h].t(), out=logits)
                    if self.key_bias is not None:
                        logits.add_(self.key_bias[b])
                    torch.softmax(logits, -1, out=full)
                    if self.threshold:
                        self._draw(generator, full.shape)
                    if keep_full:
                        self.drop_again(kept.copy_(full))
                    else:
                        kept = full
                        self.drop_again(kept)
                    yield (b, h), rows, kept, full

    def drop_again(self, weights: Tensor) -> None:
        """Set the block's dropped entries to 0, in place."""
        if self.threshold:
            weights.view(self._integer).bitwise_and_(self._bits)

    def _draw(self, generator: torch.Generator, shape: tuple[int, int]) -> None:
        rows, columns = shape
        count = rows * columns
        self._random[: count // 4 + 1].random_(generator=generator)
        lanes = self._random.view(torch.int16)[:count].bitwise_and_(_LEVELS - 1)
        # The sign bit everywhere: all ones where a weight is kept, zeros where it is dropped.
        lanes.neg_().add_(self.threshold - 1).bitwise_right_shift_(15)
        self._bits = self._mask[:rows].copy_(lanes.view(rows, columns))
