"""Drawn images and weights, for benchmarks whose times do not depend on what they are."""

import torch
from detectron2.structures import Boxes, Instances
from torch import nn

NUM_CLASSES = 80


def drawn_image(size: tuple[int, int], generator: torch.Generator, *, objects: int = 7) -> dict:
    """Noise with objects, in Detectron2's format.

    Args:
        size: (height, width) in pixels.
    """
    height, width = size
    corners = torch.rand(objects, 2, 2, generator=generator) * 0.5
    boxes = torch.cat([corners[:, 0], corners[:, 0] + 0.02 + corners[:, 1] * 0.9], dim=1)
    instances = Instances(size)
    instances.gt_boxes = Boxes(boxes * torch.tensor([width, height, width, height]))
    instances.gt_classes = torch.randint(0, NUM_CLASSES, (objects,), generator=generator)
    pixels = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return {"image": pixels, "instances": instances}


def keep_in_range(model: nn.Module) -> None:
    """Frozen norms that keep the activations of drawn weights from growing with depth."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(4.0)
