"""What chosen queries saw in every decoder layer, as numbers in pixels of the model's input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smca.layers import dense_bias
from smca.layers.level_sampling import sample_levels
from smca.modeling import FeatureLevel, LevelCoAttention, SpatialPrior
from smca.modeling.deformable import DeformableCoAttention
from smca.modeling.deformable.level_tokens import join_levels

from .recording import Call, NetworkRun

_HALF = math.sqrt(math.log(2))
"""exp(-d^2) is 1/2 there."""
_TOLERANCE = 1e-3
"""Of an output that is computed again from what is shown, relative to the largest value."""


@dataclass(frozen=True)
class LayerView:
    """What one query saw in one decoder layer. H heads, S levels of (h, w) cells; points are (x, y).

    Attributes:
        box: (4,) xyxy that the layer predicts.
        center: (2,) centre that the heads start from; None without a Gaussian prior, as the next two.
        centers: (S, H, 2) centres of the heads; H is 1 where they share them.
        half_axes: (S, H, 2) from the centre to where the prior has fallen to a half; inf where it never does.
        priors: S maps (H, h, w), the prior of each cell divided by the largest; None without one.
        before, after: S maps (H, h, w) that sum to 1, co-attention before and after modulation; None where it is not
            known.
        level_weights: (S,) that sum to 1, how much each level counts; for sampling points the mean over heads.
        points, point_weights: (H, S, K, 2) and (H, S, K), sampling points and their weights; None without.
    """

    box: np.ndarray
    center: np.ndarray | None = None
    centers: np.ndarray | None = None
    half_axes: np.ndarray | None = None
    priors: list[np.ndarray] | None = None
    before: list[np.ndarray] | None = None
    after: list[np.ndarray] | None = None
    level_weights: np.ndarray | None = None
    points: np.ndarray | None = None
    point_weights: np.ndarray | None = None


@dataclass(frozen=True)
class QueryView:
    """What one query saw.

    Attributes:
        query: its number.
        size: (height, width) of the model's input in pixels, the unit of all coordinates.
        strides: S pixels per cell.
        cell_origin: a cell's coordinate (i, j) is at pixel ((i + o) * stride, (j + o) * stride).
        layers: L views.
        notes: one sentence for each thing that cannot be shown.
    """

    query: int
    size: tuple[int, int]
    strides: tuple[int, ...]
    cell_origin: float
    layers: list[LayerView]
    notes: tuple[str, ...]

    @property
    def box(self) -> np.ndarray:
        """(4,) xyxy that the query ends in."""
        return self.layers[-1].box


@torch.no_grad()
def view_queries(run: NetworkRun, queries: Sequence[int]) -> list[QueryView]:
    """What some queries of a recorded run saw.

    Args:
        run: of :func:`~smca.attention_view.record`.
        queries: D numbers.

    Returns:
        D views. What a part of the user's own does not tell is None in them, and a sentence in their notes.
    """
    chosen = torch.tensor(list(queries), dtype=torch.long, device=run.boxes.device)
    notes: dict[str, None] = {}
    origin = next((p.cell_origin for p in run.priors if isinstance(p, SpatialPrior)), 0.0)
    per_layer = []
    for index in range(len(run.boxes)):
        call = run.calls[index] if index < len(run.calls) else None
        seen: dict[str, list] = {"box": list(run.boxes[index, chosen].cpu().numpy())}
        if index < len(run.priors):
            seen |= _prior(run.priors[index], call, run, chosen, notes)
        seen |= _attention(index, call, run, chosen, notes)
        per_layer.append(seen)
    return [
        QueryView(
            query=int(query),
            size=run.size,
            strides=run.strides,
            cell_origin=origin,
            layers=[
                LayerView(**{name: values[k] for name, values in seen.items()})
                for seen in per_layer
            ],
            notes=tuple(notes),
        )
        for k, query in enumerate(queries)
    ]


def _prior(
    prior, call: Call | None, run: NetworkRun, chosen: Tensor, notes: dict[str, None]
) -> dict[str, list]:
    """Fields of the prior, D of each."""
    seen: dict[str, list] = {}
    kind = type(prior).__name__
    weights = getattr(prior, "level_weights", None)
    if weights is not None:
        seen["level_weights"] = _rows(weights[0, chosen])
    if isinstance(prior, SpatialPrior):
        seen |= _gaussian(prior, run, chosen)
    elif callable(getattr(prior, "bias", None)):
        notes[
            f"Its prior is a {kind}, no Gaussian: it is shown without a centre and an ellipse."
        ] = None
    levels = _levels_of(call)
    if levels is not None and callable(getattr(prior, "bias", None)):
        biases = [dense_bias(prior.bias(s, level)) for s, level in enumerate(levels)]
        if all(bias is not None for bias in biases):
            maps = [
                _maps((b[0] - b[0].amax(-1, keepdim=True)).exp()[:, chosen], level)
                for b, level in zip(biases, levels, strict=True)
            ]
            seen["priors"] = [list(levels) for levels in zip(*maps, strict=True)]
    return seen


def _gaussian(prior: SpatialPrior, run: NetworkRun, chosen: Tensor) -> dict[str, list]:
    height, width = run.size
    shared = prior.center_logits[0, chosen].float().sigmoid()
    strides = shared.new_tensor(run.strides)[:, None, None, None]
    centers = torch.stack([center[0, chosen] for center in prior.centers])
    scales = torch.stack([scale[0, chosen] for scale in prior.scales]).abs()
    reach = shared.new_tensor(prior.betas).sqrt()[:, None, None, None] * _HALF
    return {
        "center": _rows(shared * shared.new_tensor([width, height])),
        "centers": _rows(((centers + prior.cell_origin) * strides).transpose(0, 1)),
        "half_axes": _rows((reach / scales * strides).transpose(0, 1)),
    }


def _attention(
    index: int, call: Call | None, run: NetworkRun, chosen: Tensor, notes: dict[str, None]
) -> dict[str, list]:
    """Fields of the co-attention, D of each; with a note instead where they cannot be known."""
    if call is None:
        layer = type(run.layers[index]).__name__ if index < len(run.layers) else "decoder"
        notes[f"Its {layer} has no co_attention to listen to: the attention cannot be shown."] = (
            None
        )
        return {}
    kind = type(call.module).__name__
    if isinstance(call.module, LevelCoAttention):
        maps = call.module.attention_maps(*call.args, **call.kwargs, chosen=chosen)
        output = _attended(call, [after for _, after in maps], chosen)
        levels = _levels_of(call)
        parts = [
            [_maps(part[0], level) for part, level in zip(side, levels, strict=True)]
            for side in zip(*maps, strict=True)
        ]
        seen = {
            name: [list(levels) for levels in zip(*part, strict=True)]
            for name, part in zip(("before", "after"), parts, strict=True)
        }
    elif isinstance(call.module, DeformableCoAttention):
        locations, weights = call.module.seen_points(*call.args, **call.kwargs, chosen=chosen)
        output = _sampled(call, locations, weights)
        height, width = run.size
        seen = {
            "points": _rows(locations[0] * locations.new_tensor([width, height])),
            "point_weights": _rows(weights[0]),
            "level_weights": _rows(weights[0].sum(-1).mean(1)),
        }
    else:
        notes[
            f"Its co-attention is a {kind}, which does not tell where it looks: it cannot be shown."
        ] = None
        return {}
    # A class derived from ours may compute something else; then the maps would be of another model.
    expected = call.output[:, chosen]
    if not torch.allclose(output, expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max())):
        notes[
            f"Its co-attention, a {kind}, computes otherwise than its base class: it cannot be shown."
        ] = None
        return {}
    return seen


def _levels_of(call: Call | None) -> list[FeatureLevel] | None:
    """The feature levels that a co-attention was called with."""
    given = () if call is None else (*call.args, *call.kwargs.values())
    for value in given:
        if isinstance(value, list) and value and isinstance(value[0], FeatureLevel):
            return value
    return None


def _attended(call: Call, maps: list[Tensor], chosen: Tensor) -> Tensor:
    """(1, D, C) output of a co-attention, from the weights that are shown."""
    prior = call.kwargs.get("prior", call.args[2] if len(call.args) > 2 else None)
    weights = None if prior is None else prior.level_weights
    total = 0
    for s, (level, part) in enumerate(zip(_levels_of(call), maps, strict=True)):
        _, value = call.module.project_level(s, level.tokens + level.position, level.tokens)
        share = 1 / len(maps) if weights is None else weights[:, None, chosen, s, None]
        total = total + share * (part.to(value.dtype) @ value)
    return call.module.merge_heads(total)


def _sampled(call: Call, locations: Tensor, weights: Tensor) -> Tensor:
    """(1, D, C) output of a deformable co-attention, from the points that are shown."""
    joined = join_levels(_levels_of(call))
    value = call.module.value(joined.tokens)
    if joined.padding_mask is not None:
        value = value.masked_fill(joined.padding_mask[..., None], 0.0)
    heads = value.unflatten(-1, (call.module.num_heads, -1))
    return call.module.out_proj(sample_levels(heads, joined.sizes, locations, weights))


def _maps(weights: Tensor, level: FeatureLevel) -> list[np.ndarray]:
    """(H, D, N) -> D maps (H, h, w)."""
    return _rows(weights.float().unflatten(-1, level.size).transpose(0, 1))


def _rows(values: Tensor) -> list[np.ndarray]:
    return list(values.float().cpu().numpy())
