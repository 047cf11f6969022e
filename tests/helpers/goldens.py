"""Drawn weights and images on which the released implementations' outputs were recorded."""

import json

import numpy as np
import torch
from torch import Tensor

from .builders import REFERENCE


def released_keys(name: str) -> dict[str, list[int]]:
    """Shapes by tensor name of a released checkpoint: "detr", "smca_single_scale" or "deformable_..."."""
    keys = json.loads((REFERENCE / f"released_{name}_keys.json").read_text())
    return keys.get("shapes", keys)


def released_copies(name: str) -> dict[str, str]:
    """Names under which a tensor of a released checkpoint is stored again, and its first name."""
    keys = json.loads((REFERENCE / f"released_{name}_keys.json").read_text())
    return keys.get("same_tensor_as", {})


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(REFERENCE / f"golden_{name}.npz") as stored:
        return dict(stored)


def drawn_weights(
    keys: dict[str, list[int]], seed: int, copies: dict[str, str] | None = None
) -> dict[str, Tensor]:
    """Weights by name; one that is there under several names is drawn once, at the first of them."""
    copies = copies or {}
    rng = np.random.RandomState(seed)
    weights = {}
    for name in sorted(keys):
        if name in copies:
            weights[name] = weights[copies[name]]
            continue
        shape = keys[name]
        x = rng.standard_normal(shape).astype(np.float32)
        weights[name] = torch.as_tensor(_scaled(name, shape, x), dtype=torch.float32)
    return weights


def _scaled(name: str, shape: list[int], x: np.ndarray) -> np.ndarray:
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(x)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape)
    if name == "query_embed.weight":
        return x
    if "decoder" in name and "in_proj_weight" in name:
        return 3 * x / np.sqrt(shape[1])
    if len(shape) >= 2:
        return x / np.sqrt(np.prod(shape[1:]))
    is_norm = any(part in name for part in ("norm", ".bn", "downsample.1"))
    return 1 + 0.1 * x if is_norm and name.endswith("weight") else 0.1 * x


def drawn_images(sizes: np.ndarray, seed: int) -> list[Tensor]:
    """Normalised images (3, height, width), constant on blocks of 32 x 32 pixels."""
    rng = np.random.RandomState(seed + 1)
    images = []
    for height, width in sizes:
        blocks = 2 * rng.standard_normal((3, height // 32, width // 32))
        pixels = blocks.repeat(32, axis=1).repeat(32, axis=2)
        images.append(torch.from_numpy(pixels.astype(np.float32)))
    return images
