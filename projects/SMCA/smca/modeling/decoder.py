import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from smca.layers import at_least_float32, full_precision, run_layer

from .decoder_layer import DecoderLayer
from .records import DecoderOutput, FeatureLevel, Queries, Target


class LearnedQueries(nn.Embedding):
    """DETR's: no content, a learned position for each of Q queries.

    Any module that takes the same arguments and returns :class:`Queries` can be a decoder's source of queries. The
    targets are those of a training step, so that a source may make queries from the ground truth; in inference there
    are none.
    """

    def __init__(self, num_queries: int, embed_dim: int):
        super().__init__(num_queries, embed_dim)

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """The same queries for every image.

        Args:
            levels: encoded feature levels, for sources that select their queries from them; not looked at here.
            image_sizes: (B, 2) unpadded (width, height) in pixels.
            targets: B targets in training.
        """
        position = self.weight.expand(image_sizes.shape[0], -1, -1)
        return Queries(content=torch.zeros_like(position), position=position)


class Decoder(nn.Module):
    """Object queries decoded against the encoded levels, layer by layer; SMCA with a modulation, DETR without."""

    def __init__(
        self,
        *,
        num_queries: int = 300,
        num_layers: int = 6,
        embed_dim: int = 256,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        dropout: float = 0.1,
        num_levels: int = 1,
        share_key_value: bool = True,
        modulation: nn.Module | None = None,
        queries: nn.Module | None = None,
        layer: nn.Module | None = None,
        query_position: nn.Module | None = None,
        refinement: nn.Module | None = None,
        output_norm: bool = True,
        activation_checkpointing: bool = False,
    ):
        """
        Args:
            num_queries: Q of the learned queries.
            num_layers: L.
            embed_dim: C.
            num_heads, ffn_dim, dropout, share_key_value: of the layers, see :class:`DecoderLayer`.
            num_levels: S.
            modulation: gives the prior of each layer, called as :class:`~smca.modeling.SpatialModulation`; None is
                DETR's plain co-attention.
            queries: source of queries, called as :class:`LearnedQueries`, which is taken where none is given.
            layer: one layer, called as :class:`DecoderLayer`, which is taken where none is given. All L are copies of
                it, each with an initialisation of its own where it has ``reset_parameters``.
            query_position: gives each layer's positions from where its queries are, called with the layer's number,
                its input (B, Q, C) and the references (B, Q, 2 or 4) as logits; None keeps those of the queries.
            refinement: moves the references from layer to layer, called with the layer's number, its output (B, Q, C)
                and the references; returns the boxes it predicts, (B, Q, 4) logits, and the next layer's references,
                which positions and modulation see without their gradient. Heads then leave the boxes to it. The
                queries have to have references.
            output_norm: whether a norm that the layers share follows each of them.
            activation_checkpointing: as in :class:`Encoder`.

        Raises:
            InputError: if the modulation was built for another number of layers, heads or levels.
        """
        super().__init__()
        if hasattr(modulation, "check_decoder"):
            heads = num_heads if layer is None else None
            modulation.check_decoder(num_layers=num_layers, num_heads=heads, num_levels=num_levels)
        self.num_levels = num_levels
        self.query_embedding = queries or LearnedQueries(num_queries, embed_dim)
        layer = layer or DecoderLayer(
            embed_dim=embed_dim,
            num_heads=num_heads,
            ffn_dim=ffn_dim,
            dropout=dropout,
            num_levels=num_levels,
            share_key_value=share_key_value,
        )
        self.layers = nn.ModuleList(copy.deepcopy(layer) for _ in range(num_layers))
        for copied in self.layers:
            if hasattr(copied, "reset_parameters"):
                copied.reset_parameters()
        self.norm = nn.LayerNorm(embed_dim) if output_norm else nn.Identity()
        self.modulation = modulation
        self.query_position = query_position
        self.refinement = refinement
        self.activation_checkpointing = activation_checkpointing

    def forward(
        self,
        levels: list[FeatureLevel],
        image_sizes: Tensor,
        targets: list[Target] | None = None,
    ) -> DecoderOutput:
        """Decode the queries layer by layer.

        Args:
            levels: encoded feature levels.
            image_sizes: (B, 2) unpadded (width, height) in pixels.
            targets: B targets in training, for the source of queries.
        """
        queries = self.query_embedding(levels, image_sizes, targets)
        target, position, reference = queries.content, queries.position, queries.references
        hidden, priors, references, boxes = [], [], [], []
        for index, layer in enumerate(self.layers):
            # Only boxes learn through a reference that has moved; see the refinement for how far.
            seen = reference if index == 0 or reference is None else reference.detach()
            if self.query_position is not None:
                position = self.query_position(index, target, seen)
            prior = None
            if self.modulation is not None:
                previous = priors[-1] if priors else None
                with full_precision(target):
                    located = at_least_float32(target + position)
                    prior = self.modulation(index, located, previous, levels, image_sizes, seen)
                priors.append(prior)
            target = run_layer(
                layer,
                target,
                position,
                levels,
                prior,
                queries.attention_mask,
                recompute=self.activation_checkpointing,
            )
            hidden.append(self.norm(target))
            references.append(reference)
            if self.refinement is not None:
                with full_precision(target):
                    box, reference = self.refinement(index, at_least_float32(hidden[-1]), reference)
                boxes.append(box)
        return DecoderOutput(
            hidden=torch.stack(hidden),
            image_sizes=image_sizes,
            references=self._references(references, priors),
            boxes=torch.stack(boxes) if boxes else None,
            queries=queries,
            priors=tuple(priors),
        )

    def _references(self, references: list[Tensor | None], priors: list[Any]) -> Tensor | None:
        """Of each layer where they move, (L, B, Q, 2 or 4), else of all, (1, B, Q, 2 or 4).

        None where they start as points and become boxes.
        """
        if self.refinement is not None:
            same = references[0].shape == references[-1].shape
            return torch.stack(references) if same else None
        if priors and getattr(priors[0], "references", None) is not None:
            return priors[0].references
        return None if references[0] is None else references[0][None]
