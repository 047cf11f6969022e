#!/usr/bin/env python
"""Matching of all layers and images in one pass, beside layer by layer and image by image.

    python benchmarks/matching_speed.py

Six layers, 8 images, 300 queries, 80 classes, 1 to 60 objects an image; costs of drawn boxes, and of boxes that lie
near the objects' as a trained model's do. The plain form computes one cost matrix per layer and image with functions
of torchvision, copies it to the host and solves it. Pairs of both forms are compared before they are timed.
"""

import torch
from scipy.optimize import linear_sum_assignment
from speed_harness import benchmark_arguments, compare, store
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from smca.modeling import FocalClassification, HungarianMatcher, Target

LAYERS, BATCH, QUERIES, CLASSES = 6, 8, 300, 80
MOST_OBJECTS = 60


def main() -> None:
    args = benchmark_arguments(__doc__, "matching_speed.json")
    # A training's images and activations have the same effect: glibc gives no memory back between calls.
    torch.ones(30 << 20, dtype=torch.uint8)
    report = {}
    for name, noise in (("drawn boxes", None), ("boxes near the objects", 0.02)):
        problem = drawn_problem(noise)
        matcher = HungarianMatcher(classification=FocalClassification())
        check_same_pairs(matcher, *problem)
        report[name] = compare(
            {
                "one pass": lambda m=matcher, p=problem: m(*p),
                "layer by layer, image by image": lambda m=matcher, p=problem: one_by_one(m, *p),
                "scipy alone": assignments(matcher, *problem),
            },
            baseline="layer by layer, image by image",
            rounds=args.rounds,
            clock=args.clock,
        )
    store(args.output, {"matching": report}, rounds=args.rounds, clock=args.clock)


def drawn_problem(noise: float | None) -> tuple[Tensor, Tensor, list[Target]]:
    """Logits, boxes and targets; with noise, the queries' boxes are objects' moved by so much of the image."""
    generator = torch.Generator().manual_seed(0)

    def boxes(*shape: int) -> Tensor:
        corner, side = torch.rand(2, *shape, 2, generator=generator)
        return torch.cat([corner * 0.6 + 0.2, side * 0.3 + 0.05], -1)

    counts = torch.linspace(1, MOST_OBJECTS, BATCH).long().tolist()
    targets = [
        Target(torch.randint(CLASSES, (count,), generator=generator), boxes(count))
        for count in counts
    ]
    logits = torch.randn(LAYERS, BATCH, QUERIES, CLASSES, generator=generator)
    found = boxes(LAYERS, BATCH, QUERIES)
    if noise is not None:
        for image, (count, target) in enumerate(zip(counts, targets, strict=True)):
            near = target.boxes[torch.arange(QUERIES) % count].expand(LAYERS, -1, -1)
            moved = near + noise * torch.randn(near.shape, generator=generator)
            found[:, image] = moved.clamp(0.01, 1)
    return logits, found, targets


def one_by_one(
    matcher: HungarianMatcher, logits: Tensor, boxes: Tensor, targets: list[Target]
) -> list[list[Tensor]]:
    """Pairs (2, M) of every layer and image."""
    return [
        [
            torch.stack([torch.as_tensor(part) for part in linear_sum_assignment(cost)])
            for cost in layer
        ]
        for layer in host_costs(matcher, logits, boxes, targets)
    ]


@torch.no_grad()
def host_costs(
    matcher: HungarianMatcher, logits: Tensor, boxes: Tensor, targets: list[Target]
) -> list[list]:
    return [
        [
            plain_cost(matcher, logits[layer, i], boxes[layer, i], target).cpu().numpy()
            for i, target in enumerate(targets)
        ]
        for layer in range(len(logits))
    ]


def plain_cost(matcher: HungarianMatcher, logits: Tensor, boxes: Tensor, target: Target) -> Tensor:
    """Cost of one layer and image: (Q, K) and (Q, 4) -> (Q, T)."""
    corners = (box_convert(b, "cxcywh", "xyxy") for b in (boxes, target.boxes))
    p, focal = logits.sigmoid()[:, target.labels], matcher.classification
    negative = (1 - focal.alpha) * p**focal.gamma * -(1 - p + focal.eps).log()
    positive = focal.alpha * (1 - p) ** focal.gamma * -(p + focal.eps).log()
    return (
        matcher.class_weight * (positive - negative)
        + matcher.box_weight * torch.cdist(boxes, target.boxes, p=1)
        - matcher.giou_weight * generalized_box_iou(*corners)
    )


def assignments(matcher: HungarianMatcher, logits: Tensor, boxes: Tensor, targets: list[Target]):
    """A call of scipy on every cost matrix, which no form of matching can do without."""
    costs = [cost for layer in host_costs(matcher, logits, boxes, targets) for cost in layer]
    return lambda: [linear_sum_assignment(cost) for cost in costs]


def check_same_pairs(
    matcher: HungarianMatcher, logits: Tensor, boxes: Tensor, targets: list[Target]
) -> None:
    matches = matcher(logits, boxes, targets)
    for layer, images in enumerate(one_by_one(matcher, logits, boxes, targets)):
        for image, pairs in enumerate(images):
            chosen = matches.image[layer] == image
            found = torch.stack([matches.query[layer][chosen], matches.target[layer][chosen]])
            if not found.equal(pairs):
                raise SystemExit(f"other pairs in layer {layer}, image {image}")


if __name__ == "__main__":
    main()
