import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smca.errors import InputError

from .chunked_attention import MIN_LOGITS, chunked_attention
from .precision import at_least_float32
from .separable_bias import SeparableBias, dense_bias


def check_heads(embed_dim: int, num_heads: int) -> None:
    """Refuse heads that cannot have channels of their own.

    Raises:
        InputError: if ``num_heads`` does not divide ``embed_dim``.
    """
    if embed_dim % num_heads:
        raise InputError(
            f"embed_dim ({embed_dim}) must be divisible by num_heads ({num_heads}); change one of them"
        )


class MultiheadAttention(nn.Module):
    """Dot-product attention of equation (1), taken apart so that callers can mix projections.

    Parameters are packed and initialised as in ``torch.nn.MultiheadAttention``, whose checkpoints load unchanged.
    The steps are separate methods because an encoder block may project each scale with weights of its own before
    one joint softmax, and because the spatial prior enters between projection and softmax.
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0):
        """
        Args:
            embed_dim: C.
            num_heads: H, a divisor of C.
            dropout: probability of dropping an attention weight in training.

        Raises:
            InputError: if ``num_heads`` does not divide ``embed_dim``.
        """
        super().__init__()
        check_heads(embed_dim, num_heads)
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project_query(self, x: Tensor) -> Tensor:
        """(B, Q, C) -> (B, H, Q, D)."""
        return self._project(x, 0)

    def project_key_value(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) twice -> (B, H, N, D) twice."""
        return self._project(key, 1), self._project(value, 2)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | SeparableBias | None
    ) -> Tensor:
        """Softmax attention of projected heads.

        Args:
            query: (B, H, Q, D).
            key, value: (B, H, N, D).
            bias: broadcastable to (B, H, Q, N); a float is added to the logits, a bool is True where a key may be
                attended to. One in two terms is computed with where that is faster, and is a float elsewhere.

        Returns:
            (B, H, Q, D).
        """
        dropout = self.dropout if self.training else 0.0
        if _takes_chunks(query, key, bias, dropout):
            return chunked_attention(query, key, value, bias=bias, dropout=dropout)
        bias = dense_bias(bias)
        if bias is not None and bias.is_floating_point() and bias.dtype != query.dtype:
            # The largest logit of every query becomes 0, so that half precision neither overflows nor rounds
            # where the weights are; a softmax does not see the shift.
            bias = (bias - bias.amax(-1, keepdim=True).detach()).to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)

    def attention_weights(
        self, query: Tensor, key: Tensor, bias: Tensor | SeparableBias | None
    ) -> Tensor:
        """What :meth:`attend` weighs the values with, which it does not give: softmax(q k / sqrt(D) + bias).

        Args:
            query, key, bias: as for :meth:`attend`.

        Returns:
            (B, H, Q, N), at least float32.
        """
        logits = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        logits, bias = at_least_float32(logits), dense_bias(bias)
        if bias is not None and bias.is_floating_point():
            logits = logits + bias
        elif bias is not None:
            logits = logits.masked_fill(~bias, float("-inf"))
        return logits.softmax(-1)

    def merge_heads(self, x: Tensor) -> Tensor:
        """(B, H, Q, D) -> (B, Q, C), through the output projection."""
        return self.out_proj(x.transpose(1, 2).flatten(2))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | SeparableBias | None = None,
    ) -> Tensor:
        """(B, Q, C) queries over (B, N, C) keys and values -> (B, Q, C); ``bias`` as in :meth:`attend`."""
        heads = self.attend(self.project_query(query), *self.project_key_value(key, value), bias)
        return self.merge_heads(heads)

    def _project(self, x: Tensor, part: int) -> Tensor:
        dim = x.shape[-1]
        rows = slice(part * dim, (part + 1) * dim)
        x = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _takes_chunks(
    query: Tensor, key: Tensor, bias: Tensor | SeparableBias | None, dropout: float
) -> bool:
    """Whether the fused kernel cannot run and blocks are faster than the plain one."""
    if query.device.type != "cpu" or query.shape[2] * key.shape[2] < MIN_LOGITS or dropout >= 1:
        return False
    if isinstance(bias, SeparableBias):
        return dropout > 0 or (torch.is_grad_enabled() and bias.requires_grad)
    # A mask of keys is a row that all queries share.
    is_key_mask = bias is None or (bias.dtype is torch.bool and bias.shape[1:3] == (1, 1))
    return dropout > 0 and is_key_mask


class CoAttention(MultiheadAttention):
    """Co-attention of object queries over S feature levels, equations (5), (6), (8) and (9).

    Each level has its own softmax, modulated by its own log prior; the heads' outputs are summed with the
    scale-selection weights. With one level and no prior it is DETR's cross-attention.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        *,
        num_levels: int = 1,
        share_key_value: bool = True,
    ):
        """
        Args:
            embed_dim, num_heads, dropout: as in :class:`MultiheadAttention`.
            num_levels: S.
            share_key_value: one key and value projection for all levels. The paper's text says one per level; its
                parameter counts say shared, which is the default.
        """
        super().__init__(embed_dim, num_heads, dropout)
        own = 0 if share_key_value else num_levels - 1
        self.level_key_value = nn.ModuleList(
            nn.Linear(embed_dim, 2 * embed_dim) for _ in range(own)
        )

    def forward(
        self,
        query: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
        biases: list[Tensor | SeparableBias | None],
        level_weights: Tensor | None = None,
    ) -> Tensor:
        """Attend to the cells of all levels, each with its own projections and bias.

        Args:
            query: (B, Q, C).
            keys, values: S tensors (B, N_s, C) each.
            biases: of S levels, as in :meth:`MultiheadAttention.attend`.
            level_weights: (B, Q, S) scale-selection weights alpha, summing to 1; None weighs all levels equally.

        Returns:
            (B, Q, C).
        """
        q = self.project_query(query)
        total = None
        for s, (key, value, bias) in enumerate(zip(keys, values, biases, strict=True)):
            heads = self.attend(q, *self.project_level(s, key, value), bias)
            if level_weights is not None:
                heads = heads * level_weights[:, None, :, s, None]
            elif len(keys) > 1:
                heads = heads / len(keys)
            total = heads if total is None else total + heads
        return self.merge_heads(total)

    def project_level(self, level: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, C) keys and values of one level -> (B, H, N, D) twice."""
        if level == 0 or len(self.level_key_value) == 0:
            return self.project_key_value(key, value)
        linear = self.level_key_value[level - 1]
        weights, biases = linear.weight.chunk(2), linear.bias.chunk(2)
        return tuple(
            F.linear(x, w, b).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, w, b in zip((key, value), weights, biases, strict=True)
        )
