"""Attention on a CPU, a block of rows at a time: with dropout, and with a bias that has a gradient.

PyTorch's fused CPU kernel takes neither; the plain one behind it keeps several (Q, N) matrices per head and draws a
random number in 6 ns. Here a block stays in the cache, the backward pass computes it again, and a dropped weight costs
15 random bits.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .precision import at_least_float32, full_precision
from .separable_bias import SeparableBias

MIN_LOGITS = 1 << 16
"""Per head; below, the calls for each block cost more than they save."""

_BLOCK_LOGITS = 1 << 18
_LEVELS = 1 << 15
"""The probability of dropout is rounded to a multiple of 1 / 32768; kept weights are scaled by what it then is."""
# Powers of 2: exp is several times slower on some CPUs.
_LOG2_E = 1 / math.log(2)


# A graph of all blocks would be long, and a new one for each size.
@torch.compiler.disable
def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | SeparableBias | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention that never holds more than a block of its weights, equation (1).

    Half precision is computed in float32. Random numbers come from a generator seeded by the default one.

    Args:
        query: (B, H, Q, E).
        key: (B, H, N, E).
        value: (B, H, N, D).
        bias: terms of a map's rows and columns, with a gradient; or (B or 1, 1, 1, N) bool, True where a key may be
            attended to.
        dropout: probability of dropping a weight.

    Returns:
        (B, H, Q, D).
    """
    with full_precision(query):
        parts = [at_least_float32(x) for x in (query, key, value)]
        allowed, terms = bias, (None, None)
        if isinstance(bias, SeparableBias):
            allowed = bias.allowed
            terms = (x.to(parts[0].dtype).expand(-1, query.shape[1], -1, -1) for x in bias.terms)
        key_bias = None if allowed is None else _key_bias(allowed, parts[1])
        return _ChunkedAttention.apply(*parts, *terms, key_bias, dropout).to(query.dtype)


def _key_bias(allowed: Tensor, key: Tensor) -> Tensor:
    """(B or 1, 1, 1, N) bool -> (B, N) of 0 and minus infinity."""
    row = key.new_zeros(len(key), key.shape[2])
    return row.masked_fill_(~allowed[:, 0, 0], float("-inf"))


class _ChunkedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, of_row, of_column, key_bias, dropout):
        seed = int(torch.randint(2**62, ())) if dropout else 0
        weights = _Weights(query, key, of_row, of_column, key_bias, dropout, seed)
        out = value.new_empty(*query.shape[:3], value.shape[-1])
        largest, total = out.new_empty(2, *query.shape[:3], 1)
        heads = [_heads(x) for x in (value, out, largest, total)]
        for head, rows in weights.blocks():
            of_values, of_out, of_largest, of_total = (x[head] for x in heads)
            exponents = weights.exponents(head, rows)
            torch.amax(exponents, -1, keepdim=True, out=of_largest[rows])
            exponents.sub_(of_largest[rows]).exp2_()
            torch.sum(exponents, -1, keepdim=True, out=of_total[rows])
            torch.mm(weights.dropped(exponents), of_values, out=of_out[rows])
        out.mul_(weights.factor / total)
        shift = largest.add_(total.log2_())
        ctx.save_for_backward(query, key, value, of_row, of_column, key_bias, out, shift)
        ctx.settings = (dropout, seed)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        with full_precision(grad):
            return _ChunkedAttention._gradients(ctx, grad)

    @staticmethod
    def _gradients(ctx, grad):
        query, key, value, of_row, of_column, key_bias, out, shift = ctx.saved_tensors
        weights = _Weights(query, key, of_row, of_column, key_bias, *ctx.settings, shift=shift)
        mean = (grad * out).sum(-1, keepdim=True).neg_()
        if weights.factor != 1:
            grad = grad * weights.factor
        grads = [torch.empty_like(x) for x in (query, key, value)]
        grad_terms = [None if x is None else x.new_empty(x.shape) for x in (of_row, of_column)]
        heads = [_heads(x) for x in (query, key, value, grad, mean, *grads)]
        heads_of_terms = [_heads(x) for x in grad_terms if x is not None]
        for head, rows in weights.blocks():
            of_query, of_key, of_value, given, less, to_query, to_key, to_value = (
                x[head] for x in heads
            )
            full = weights.exponents(head, rows).exp2_()
            kept = weights.dropped(full)
            # The first rows of a head find nothing to add to.
            start = int(rows.start > 0)
            torch.addmm(to_value, kept.t(), given[rows], beta=start, out=to_value)
            slope = weights.buffer(rows)
            if kept is full:
                torch.addmm(less[rows], given[rows], of_value.t(), out=slope).mul_(full)
            else:
                torch.mm(given[rows], of_value.t(), out=slope).mul_(kept)
                slope.addcmul_(full, less[rows])
            torch.mm(slope, of_key, out=to_query[rows])
            torch.addmm(to_key, slope.t(), of_query[rows], beta=start, out=to_key)
            # Rows are the cells' second last dimension, summed over their columns, and the other way round.
            for dim, of_term in zip((2, 1), heads_of_terms, strict=False):
                torch.sum(weights.as_map(slope), dim, out=of_term[head][rows])
        for x in grads[:2]:
            x.mul_(weights.scale)
        return *grads, *grad_terms, None, None


def _heads(x: Tensor) -> list[Tensor]:
    """(B, H, ...) -> its B * H parts, without a copy."""
    return [head for image in x.unbind() for head in image.unbind()]


class _Weights:
    """The softmax of every block, the same for the same seed.

    A block's buffers hold what the last call wrote.
    """

    def __init__(self, query, key, of_row, of_column, key_bias, dropout, seed, shift=None):
        """``shift`` (B, H, Q, 1) is what to take off the exponents."""
        self.scale = query.shape[-1] ** -0.5
        threshold = min(round(dropout * _LEVELS), _LEVELS - 1)
        self.factor = _LEVELS / (_LEVELS - threshold)
        self._query, self._key = _heads(query * (self.scale * _LOG2_E)), _heads(key)
        self._terms, self._shift = None, None
        if of_row is not None:
            self._map = (of_row.shape[-1], of_column.shape[-1])
            of_row, of_column = of_row * _LOG2_E, of_column * _LOG2_E
            if shift is not None:
                of_row.sub_(shift)
            self._terms = list(zip(_heads(of_row), _heads(of_column), strict=True))
        elif shift is not None:
            self._shift = _heads(shift)
        self._key_bias, self._num_heads = key_bias, query.shape[1]
        self._num_queries = query.shape[2]
        self._rows = max(1, min(self._num_queries, _BLOCK_LOGITS // key.shape[2]))
        shape = (self._rows, key.shape[2])
        self._exponents, self._spare = query.new_empty(shape), query.new_empty(shape)
        self._dropout = _Dropout(shape, threshold, seed, query) if threshold else None

    def blocks(self) -> Iterator[tuple[int, slice]]:
        """Of each head, counted over the batch, its rows."""
        for head in range(len(self._query)):
            for start in range(0, self._num_queries, self._rows):
                yield head, slice(start, min(start + self._rows, self._num_queries))

    def exponents(self, head: int, rows: slice) -> Tensor:
        """(rows, N) logits of a block to the base of 2, less the shift."""
        logits = self._exponents[: rows.stop - rows.start]
        query, key = self._query[head][rows], self._key[head].t()
        if self._terms is not None:
            of_row, of_column = self._terms[head]
            torch.add(of_row[rows, :, None], of_column[rows, None], out=self.as_map(logits))
            logits.addmm_(query, key)
        elif self._shift is not None:
            torch.addmm(self._shift[head][rows], query, key, beta=-1, out=logits)
        else:
            torch.mm(query, key, out=logits)
        if self._key_bias is not None:
            logits.add_(self._key_bias[head // self._num_heads], alpha=_LOG2_E)
        return logits

    def as_map(self, block: Tensor) -> Tensor:
        """(rows, N) -> (rows, h, w)."""
        return block.view(len(block), *self._map)

    def dropped(self, weights: Tensor) -> Tensor:
        return weights if self._dropout is None else self._dropout(weights)

    def buffer(self, rows: slice) -> Tensor:
        return self._spare[: rows.stop - rows.start]


class _Dropout:
    """Sets entries of one block after the other to 0."""

    def __init__(self, shape: tuple[int, int], threshold: int, seed: int, like: Tensor):
        self._threshold = threshold
        self._generator = torch.Generator().manual_seed(seed)
        self._random = torch.empty(shape[0] * shape[1] // 4 + 1, dtype=torch.int64)
        # Integers as wide as the weights, whose bits they mask.
        self._integer = {4: torch.int32, 8: torch.int64}[like.element_size()]
        self._kept = like.new_empty(shape)

    def __call__(self, weights: Tensor) -> Tensor:
        """(rows, N) weights -> a copy with zeros, in a buffer of its own."""
        count = weights.numel()
        self._random[: count // 4 + 1].random_(generator=self._generator)
        lanes = self._random.view(torch.int16)[:count].bitwise_and_(_LEVELS - 1)
        # The sign bit everywhere: all ones where a weight is kept, zeros where it is dropped.
        lanes.neg_().add_(self._threshold - 1).bitwise_right_shift_(15)
        kept = self._kept[: len(weights)]
        bits = kept.view(self._integer).copy_(lanes.view(weights.shape))
        bits.bitwise_and_(weights.view(self._integer))
        return kept
