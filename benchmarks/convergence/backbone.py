"""A backbone that knows digits, in the place of the paper's, which knows ImageNet.

It learns to tell single digits apart, whole images of 64 pixels with a label and no box, made of the training's writers
and photographs. Every model of a setting starts from the same file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from smca.data.digits.registration import register_digits
from smca.data.digits.spec import DigitsSpec
from smca.modeling import build_resnet
from smca.whole_file import replacing

STEPS = 1000
IMAGES = 64
LEARNING_RATE = 2e-3
_SEED = 2
# ImageNet's, which all models here have, RGB.
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def pretrained_backbone(path: Path, *, depth: int, stem_channels: int) -> str:
    """Train a backbone unless its file is there; returns the file's sha256.

    Args:
        path: of the checkpoint, which has the backbone under the names of SMCA's models and of Faster R-CNN's.
        depth, stem_channels: of the ResNet.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        states, accuracy = _train(depth, stem_channels)
        print(f"{path}: {accuracy:.1%} of new images of a digit are told right", flush=True)
        with replacing(path) as partial:
            torch.save({"model": _named(states)}, partial)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _train(depth: int, stem_channels: int) -> tuple[dict[str, Tensor], float]:
    spec = DigitsSpec(
        image_height=64, image_width=64, varied_fraction=0.0, digit_min=14, digit_max=48,
        max_objects=1, empty_fraction=0.0, train_images=8000, val_images=1, seed=_SEED,
    )  # fmt: skip
    register_digits(name="digits64_single", spec=spec)
    images, labels = _load("digits64_single_train")
    # The last ones are looked at once, at the end.
    kept = len(images) - 1000
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(_SEED)
    backbone = build_resnet(
        depth=depth, out_features=["res5"], norm="BN", freeze_at=0, stem_channels=stem_channels
    )
    channels = backbone.output_shape()["res5"].channels
    model = nn.Sequential(_Pooled(backbone), nn.Linear(channels, 10)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    rng = np.random.default_rng(_SEED)
    for _ in range(STEPS):
        chosen = torch.from_numpy(rng.integers(kept, size=IMAGES))
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(_normalised(images[chosen], device))
        loss = F.cross_entropy(logits.float(), labels[chosen].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        found = [
            model(_normalised(images[start : start + IMAGES], device)).argmax(1).cpu()
            for start in range(kept, len(images), IMAGES)
        ]
    accuracy = (torch.cat(found) == labels[kept:]).float().mean().item()
    return {name: tensor.cpu() for name, tensor in backbone.state_dict().items()}, accuracy


class _Pooled(nn.Module):
    """The mean of a backbone's last map."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> Tensor:
        return self.backbone(pixels)["res5"].mean((2, 3))


def _load(name: str) -> tuple[Tensor, Tensor]:
    """(N, 3, 64, 64) uint8 and (N,) labels."""
    records = [record for record in DatasetCatalog.get(name) if record["annotations"]]
    images = [np.asarray(Image.open(r["file_name"]).convert("RGB")) for r in records]
    labels = [record["annotations"][0]["category_id"] for record in records]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(labels)


def _normalised(images: Tensor, device: torch.device) -> Tensor:
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (_MEAN, _STD))
    return (images.to(device).float() - mean) / std


def _named(states: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under both models' names; Faster R-CNN gets its channels as BGR."""
    named = {f"backbone.{name}": tensor for name, tensor in states.items()}
    flipped = {**states, "stem.conv1.weight": states["stem.conv1.weight"].flip(1)}
    return named | {f"backbone.bottom_up.{name}": tensor for name, tensor in flipped.items()}
