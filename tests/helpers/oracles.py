"""The paper's equations (1) to (12) with plain loops in float64. Nothing here calls the package.

Everything is for one image: padding is left out of a loop instead of being masked, and no result
depends on the other images of a batch. ``Params`` are a module's tensors by name.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

Params = dict[str, np.ndarray]


@dataclass
class ImageLevel:
    """One scale of one image: tokens, position (N, C), padded (N,) bool, size (h, w)."""

    tokens: np.ndarray
    position: np.ndarray
    padded: np.ndarray
    size: tuple[int, int]
    stride: int


def params_of(module: nn.Module) -> Params:
    return {name: t.detach().double().numpy() for name, t in module.state_dict().items()}


def image_levels(levels: list, image: int) -> list[ImageLevel]:
    """One image's part of a batch of the package's feature levels."""
    found = []
    for level in levels:
        tokens = level.tokens[image].detach().double().numpy()
        padded = np.zeros(len(tokens), dtype=bool)
        if level.padding_mask is not None:
            padded = level.padding_mask[image].numpy()
        position = level.position[image].detach().double().numpy()
        found.append(ImageLevel(tokens, position, padded, level.size, level.stride))
    return found


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(logits: list[float]) -> list[float]:
    exponentials = [math.exp(logit - max(logits)) for logit in logits]
    return [e / sum(exponentials) for e in exponentials]


def affine(params: Params, name: str, x: np.ndarray) -> np.ndarray:
    return params[f"{name}.weight"] @ x + params[f"{name}.bias"]


def layer_norm(params: Params, name: str, x: np.ndarray) -> np.ndarray:
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    normal = (x - mean) / math.sqrt(variance + 1e-5)
    return normal * params[f"{name}.weight"] + params[f"{name}.bias"]


def mlp(params: Params, name: str, x: np.ndarray, num_layers: int) -> np.ndarray:
    for i in range(num_layers):
        x = affine(params, f"{name}.layers.{i}", x)
        if i < num_layers - 1:
            x = np.maximum(x, 0)
    return x


def feed_forward(params: Params, name: str, x: np.ndarray) -> np.ndarray:
    return affine(params, f"{name}.linear2", np.maximum(affine(params, f"{name}.linear1", x), 0))


def project(params: Params, name: str, part: int, x: np.ndarray) -> np.ndarray:
    """Query (part 0), key (1) or value (2) projection, packed in this order."""
    rows = slice(part * len(x), (part + 1) * len(x))
    return params[f"{name}.in_proj_weight"][rows] @ x + params[f"{name}.in_proj_bias"][rows]


def attend(
    query: np.ndarray,
    keys: list[np.ndarray],
    values: list[np.ndarray],
    log_prior: list[float] | None = None,
) -> np.ndarray:
    """Equations (1) and (5) for one query of one head."""
    logits = []
    for n, key in enumerate(keys):
        logit = sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query))
        logits.append(logit + (log_prior[n] if log_prior is not None else 0.0))
    weights = softmax(logits)
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def split_heads(x: np.ndarray, num_heads: int) -> list[np.ndarray]:
    return np.split(x, num_heads)


def multihead_attention(
    params: Params,
    name: str,
    num_heads: int,
    queries: list[np.ndarray],
    keys: list[np.ndarray],
    values: list[np.ndarray],
) -> list[np.ndarray]:
    q = [split_heads(project(params, name, 0, x), num_heads) for x in queries]
    k = [split_heads(project(params, name, 1, x), num_heads) for x in keys]
    v = [split_heads(project(params, name, 2, x), num_heads) for x in values]
    results = []
    for query in q:
        heads = [
            attend(query[h], [key[h] for key in k], [value[h] for value in v])
            for h in range(num_heads)
        ]
        results.append(affine(params, f"{name}.out_proj", np.concatenate(heads)))
    return results


def encoder_block(
    params: Params, levels: list[ImageLevel], *, kind: str, num_heads: int
) -> list[np.ndarray]:
    """Equation (1) over the cells of each scale or, "multi", of all; S arrays (N, C)."""

    def own(part: str, s: int) -> str:
        return (
            f"{part}.{s}" if any(name.startswith(f"{part}.1.") for name in params) else f"{part}.0"
        )

    q, k, v = {}, {}, {}
    for s, level in enumerate(levels):
        name = own("attention", s)
        for n, token in enumerate(level.tokens):
            located = token + level.position[n]
            q[s, n] = split_heads(project(params, name, 0, located), num_heads)
            k[s, n] = split_heads(project(params, name, 1, located), num_heads)
            v[s, n] = split_heads(project(params, name, 2, token), num_heads)
    results = []
    for s, level in enumerate(levels):
        rows = []
        for n, token in enumerate(level.tokens):
            seen = [(t, m) for t, m in k if not levels[t].padded[m] and (kind == "multi" or t == s)]
            heads = [
                attend(q[s, n][h], [k[cell][h] for cell in seen], [v[cell][h] for cell in seen])
                for h in range(num_heads)
            ]
            update = affine(params, f"{own('attention', s)}.out_proj", np.concatenate(heads))
            x = layer_norm(params, "norm1", token + update)
            x = layer_norm(params, "norm2", x + feed_forward(params, own("ffn", s), x))
            rows.append(x)
        results.append(np.array(rows))
    return results


@dataclass
class ImageDecoding:
    """hidden (L, Q, C), center_logits (Q, 2) or None, level_weights (L, Q, S)."""

    hidden: np.ndarray
    center_logits: np.ndarray | None
    level_weights: np.ndarray


class DecoderOracle:
    """Equations (2) to (9) for one image."""

    def __init__(
        self,
        params: Params,
        *,
        num_heads: int,
        num_layers: int,
        modulated: bool = True,
        per_head: bool = True,
        scale: str = "independent",
        scale_selection: bool = False,
        beta: float = 8.0,
    ):
        self.params = params
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.modulated = modulated
        self.per_head = per_head
        self.scale = scale
        self.scale_selection = scale_selection
        self.beta = beta

    def __call__(self, levels: list[ImageLevel], image_size: tuple[int, int]) -> ImageDecoding:
        """``image_size`` is the unpadded (width, height) in pixels."""
        params = self.params
        embedding = params["query_embedding.weight"]
        target = np.zeros_like(embedding)
        hidden, all_weights, center_logits = [], [], None
        for layer in range(self.num_layers):
            located = target + embedding
            o = None
            if self.modulated:
                o = [layer_norm(params, f"modulation.layers.{layer}.norm", x) for x in located]
                if layer == 0:
                    center_logits = np.array([mlp(params, "modulation.center", x, 3) for x in o])
            name = f"layers.{layer}"
            update = multihead_attention(
                params, f"{name}.self_attention", self.num_heads, located, located, target
            )
            target = np.array(
                [layer_norm(params, f"{name}.norm1", target[i] + u) for i, u in enumerate(update)]
            )
            rows, weights = [], []
            for i, x in enumerate(target):
                alpha = self.level_weights(layer, o, i, len(levels))
                center = None if o is None else center_logits[i]
                o_q = None if o is None else o[i]
                update = self.co_attention(
                    layer, x + embedding[i], o_q, center, alpha, levels, image_size
                )
                x = layer_norm(params, f"{name}.norm2", x + update)
                x = layer_norm(params, f"{name}.norm3", x + feed_forward(params, f"{name}.ffn", x))
                rows.append(x)
                weights.append(alpha)
            target = np.array(rows)
            hidden.append([layer_norm(params, "norm", x) for x in target])
            all_weights.append(weights)
        return ImageDecoding(np.array(hidden), center_logits, np.array(all_weights))

    def level_weights(self, layer: int, o: list | None, query: int, num_levels: int) -> list[float]:
        """Equation (7), or equal weights."""
        if o is None or not self.scale_selection:
            return [1 / num_levels] * num_levels
        name = f"modulation.layers.{layer}.level_selection"
        return softmax(list(affine(self.params, name, o[query])))

    def co_attention(
        self,
        layer: int,
        query: np.ndarray,
        o_q: np.ndarray | None,
        center_logit: np.ndarray | None,
        alpha: list[float],
        levels: list[ImageLevel],
        image_size: tuple[int, int],
    ) -> np.ndarray:
        """Equations (5), (6), (8) and (9) for one query."""
        name = f"layers.{layer}.co_attention"
        q = split_heads(project(self.params, name, 0, query), self.num_heads)
        total = [np.zeros_like(head) for head in q]
        for s, level in enumerate(levels):
            valid = [n for n in range(len(level.tokens)) if not level.padded[n]]
            keys = [level.tokens[n] + level.position[n] for n in valid]
            k = [split_heads(self.level_project(name, s, 1, x), self.num_heads) for x in keys]
            v = [
                split_heads(self.level_project(name, s, 2, level.tokens[n]), self.num_heads)
                for n in valid
            ]
            for h in range(self.num_heads):
                log_prior = None
                if o_q is not None:
                    prior = self.log_prior(layer, o_q, center_logit, s, h, levels, image_size)
                    log_prior = [prior[n] for n in valid]
                head = attend(q[h], [x[h] for x in k], [x[h] for x in v], log_prior)
                total[h] = total[h] + alpha[s] * head
        return affine(self.params, f"{name}.out_proj", np.concatenate(total))

    def level_project(self, name: str, level: int, part: int, x: np.ndarray) -> np.ndarray:
        own = f"{name}.level_key_value.{level - 1}"
        if f"{own}.weight" not in self.params or level == 0:
            return project(self.params, name, part, x)
        rows = slice((part - 1) * len(x), part * len(x))
        return self.params[f"{own}.weight"][rows] @ x + self.params[f"{own}.bias"][rows]

    def log_prior(
        self,
        layer: int,
        o_q: np.ndarray,
        center_logit: np.ndarray,
        s: int,
        head: int,
        levels: list[ImageLevel],
        image_size: tuple[int, int],
    ) -> list[float]:
        """Equations (3), (4) and (6), with 1 / s for s as released, cells row by row."""
        name = f"modulation.layers.{layer}"
        level = levels[s]
        width, height = image_size
        c_x = sigmoid(center_logit[0]) * width / level.stride
        c_y = sigmoid(center_logit[1]) * height / level.stride
        num_groups = self.num_heads if self.per_head else 1
        group = s * num_groups + (head if self.per_head else 0)
        if self.per_head:
            offset = affine(self.params, f"{name}.offset", o_q)
            c_x += offset[2 * group]
            c_y += offset[2 * group + 1]
        s_x = s_y = 1.0
        if self.scale == "single":
            s_x = s_y = affine(self.params, f"{name}.scale", o_q)[group]
        elif self.scale == "independent":
            both = affine(self.params, f"{name}.scale", o_q)
            s_x, s_y = both[2 * group], both[2 * group + 1]
        beta = self.beta * 32 / level.stride
        rows, columns = level.size
        return [
            -((i - c_x) ** 2 * s_x**2 + (j - c_y) ** 2 * s_y**2) / beta
            for j in range(rows)
            for i in range(columns)
        ]


def heads(
    params: Params, hidden: np.ndarray, center_logits: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Equations (10) to (12): hidden (L, Q, C) -> logits (L, Q, K), boxes (L, Q, 4) as cxcywh."""
    logits = [[affine(params, "classifier", x) for x in layer] for layer in hidden]
    boxes = []
    for layer in hidden:
        rows = []
        for i, x in enumerate(layer):
            raw = mlp(params, "box", x, 3)
            if center_logits is not None:
                raw = raw + np.array([center_logits[i][0], center_logits[i][1], 0, 0])
            rows.append([sigmoid(value) for value in raw])
        boxes.append(rows)
    return np.array(logits), np.array(boxes)


def focal_term(logit: float, positive: bool, alpha: float = 0.25, gamma: float = 2.0) -> float:
    p = sigmoid(logit)
    if positive:
        return -alpha * (1 - p) ** gamma * math.log(p)
    return -(1 - alpha) * p**gamma * math.log(1 - p)


def giou(a: np.ndarray, b: np.ndarray) -> float:
    """Generalised IoU of two boxes given as (cx, cy, w, h)."""
    ax0, ay0, ax1, ay1 = _corners(a)
    bx0, by0, bx1, by1 = _corners(b)
    overlap = max(min(ax1, bx1) - max(ax0, bx0), 0.0) * max(min(ay1, by1) - max(ay0, by0), 0.0)
    union = a[2] * a[3] + b[2] * b[3] - overlap
    hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    return overlap / union - (hull - union) / hull


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    cx, cy, w, h = (float(x) for x in box)
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
