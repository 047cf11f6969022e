from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from smca.device import copy_to
from smca.errors import InputError

from ..criterion import MoreOutputs, check_weight
from ..matcher import Matches
from ..records import FeatureLevel, Queries, Target

# Sides, as shares of the image, of the boxes that an image without objects is given.
_SMALLEST_RANDOM, _LARGEST_RANDOM = 0.05, 0.5
# Of the label embeddings before training: larger ones drown what comes from the image.
_LABEL_STD = 0.02
_SMALLEST_SIDE = 1e-3


class DenoisingQueries(nn.Module):
    """Another source's queries and, in training, noised objects whose match is known (DN-DETR, contrastive as in DINO).

    Each image has the same number D of them, whatever it holds. The first half are positives, to be moved back to
    their object: corners of its box are shifted by up to ``box_noise`` half sides, and some have a wrong label. The
    other half are negatives, shifted by one to two times that, which are to be no object. Query i of either half is
    made of object i mod T of the image's T objects and belongs to group i div T, the last of which may be incomplete:
    an image with few objects has many groups, and one with more than D / 2 has one group of as many, drawn anew each
    time. An image without objects has D negatives, of random boxes. So no batch grows with its fullest image, none is
    padded, and every parameter has a gradient in every step.

    A group sees itself only: neither other groups, from which it could copy, nor the matched queries, which do not
    see it either. References are at least a thousandth of the image wide, high and from its border, so that their
    logits are finite: smaller boxes start as large. Noise comes of PyTorch's generator, which the trainer seeds by
    iteration.
    """

    def __init__(
        self,
        *,
        queries: nn.Module,
        num_classes: int,
        embed_dim: int,
        num_denoising: int = 100,
        box_noise: float = 0.4,
        label_noise: float = 0.25,
        weight: float = 1.0,
    ):
        """
        Args:
            queries: source of the queries to be matched; must give boxes (B, Q, 4) as references.
            num_classes: of the data set.
            embed_dim: C.
            num_denoising: D, even; 0 is none, which leaves the other source alone.
            box_noise: see above, in [0, 1].
            label_noise: probability in [0, 1] that a label is replaced by one drawn of all.
            weight: of their losses, which are averaged over D / 2 of each image as others are over objects.

        Raises:
            InputError: for an odd or negative number of queries, noise out of its range, or a negative weight.
        """
        super().__init__()
        if num_denoising < 0 or num_denoising % 2:
            raise InputError(
                f"queries.num_denoising must be even and at least 0, got {num_denoising}"
            )
        for name, value in (("box_noise", box_noise), ("label_noise", label_noise)):
            if not 0 <= value <= 1:
                raise InputError(f"queries.{name} must be in [0, 1], got {value}")
        check_weight(weight)
        self.queries = queries
        self.num_classes = num_classes
        self.half = num_denoising // 2
        self.box_noise = box_noise
        self.label_noise = label_noise
        self.weight = weight
        self.label = nn.Embedding(num_classes, embed_dim) if num_denoising else None
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=_LABEL_STD)

    def forward(
        self,
        levels: Sequence[FeatureLevel],
        image_sizes: Tensor,
        targets: Sequence[Target] | None = None,
    ) -> Queries:
        """Called as :class:`~smca.modeling.LearnedQueries`; Q + D queries with targets, else Q."""
        found = self.queries(levels, image_sizes, targets)
        if targets is None or self.half == 0:
            return found
        if found.references is None or found.references.shape[-1] != 4:
            raise InputError("queries.queries must give boxes (B, Q, 4) to be denoised beside")
        noised = [self._noise(target) for target in targets]
        labels, boxes, groups = (
            torch.stack([getattr(image, name) for image in noised])
            for name in ("labels", "boxes", "groups")
        )
        content = self.label(labels)
        references = boxes.to(found.references.dtype).logit(eps=_SMALLEST_SIDE)
        return Queries(
            content=torch.cat([found.content, content], 1),
            position=torch.cat([found.position, torch.zeros_like(content)], 1),
            references=torch.cat([found.references, references], 1),
            attention_mask=_mask(found, groups),
            split=_Split(
                num_denoising=2 * self.half,
                pairs=_pairs([image.objects for image in noised]),
                weight=self.weight,
                others=found.split,
            ),
        )

    @torch.no_grad()
    def _noise(self, target: Target) -> "_NoisedObjects":
        number, device = len(target.labels), target.boxes.device
        position = torch.arange(self.half, device=device)
        if number == 0:
            labels = torch.randint(self.label.num_embeddings, (2 * self.half,), device=device)
            groups = torch.arange(2 * self.half, device=device)
            return _NoisedObjects(labels, _random_boxes(target, 2 * self.half), groups, None)
        order = torch.randperm(number, device=device) if number > self.half else position % number
        objects = order[: self.half]
        doubled = objects.repeat(2)
        labels = target.labels[doubled]
        drawn = torch.randint(self.label.num_embeddings, labels.shape, device=device)
        wrong = torch.rand(labels.shape, device=device) < self.label_noise
        return _NoisedObjects(
            labels=torch.where(wrong, drawn, labels),
            boxes=self._shift_corners(target.boxes[doubled]),
            groups=(position // number).repeat(2),
            objects=objects,
        )

    def _shift_corners(self, boxes: Tensor) -> Tensor:
        """(2 half, 4) boxes; the second half is shifted by one to two times ``box_noise`` half sides."""
        share = torch.rand_like(boxes)
        share[self.half :] += 1
        sign = torch.where(torch.rand_like(boxes) < 0.5, -1.0, 1.0)
        shift = self.box_noise * sign * share * boxes[:, 2:].repeat(1, 2) / 2
        corners = (box_convert(boxes, "cxcywh", "xyxy") + shift).clamp(0, 1).view(-1, 2, 2)
        # Corners that have changed places.
        low, high = corners.amin(1), corners.amax(1)
        return box_convert(torch.cat([low, high], 1), "xyxy", "cxcywh")


@dataclass(frozen=True)
class _NoisedObjects:
    """What the D queries of one image are made of.

    Attributes:
        labels, boxes: (D,) and (D, 4), noised.
        groups: (D,) number of each query's group.
        objects: (D / 2,) index of each positive's object; None in an image without.
    """

    labels: Tensor
    boxes: Tensor
    groups: Tensor
    objects: Tensor | None


def _random_boxes(target: Target, number: int) -> Tensor:
    drawn = torch.rand(number, 4, dtype=target.boxes.dtype, device=target.boxes.device)
    sides = _SMALLEST_RANDOM + (_LARGEST_RANDOM - _SMALLEST_RANDOM) * drawn[:, 2:]
    return torch.cat([drawn[:, :2], sides], 1)


def _mask(found: Queries, groups: Tensor) -> Tensor:
    """(B, 1, Q + D, Q + D) bool: the source's own mask, and each group of each image (B, D) by itself."""
    num, (batch, more) = found.content.shape[1], groups.shape
    mask = groups.new_zeros(batch, 1, num + more, num + more, dtype=torch.bool)
    mask[..., :num, :num] = True if found.attention_mask is None else found.attention_mask
    mask[:, 0, num:, num:] = groups[:, :, None] == groups[:, None, :]
    return mask


def _pairs(objects: Sequence[Tensor | None]) -> Tensor:
    """(3, M) image, query and object of all positives."""
    pairs = [
        torch.stack([torch.full_like(found, image), torch.arange(len(found)).to(found), found])
        for image, found in enumerate(objects)
        if found is not None
    ]
    return torch.cat(pairs, 1) if pairs else torch.empty(3, 0, dtype=torch.int64)


@dataclass(frozen=True)
class _Split:
    """Takes the last queries off, as "denoising", and leaves the others to their source's split.

    Attributes:
        num_denoising: D.
        pairs: (3, M), see :func:`_pairs`.
        weight: of the losses.
        others: the split of the other queries; None has nothing to take apart.
    """

    num_denoising: int
    pairs: Tensor
    weight: float
    others: Callable[[dict[str, Any]], dict[str, Any]] | None

    def __call__(self, outputs: dict[str, Any]) -> dict[str, Any]:
        others = {name: values[:, :, : -self.num_denoising] for name, values in outputs.items()}
        noised = {name: values[:, :, -self.num_denoising :] for name, values in outputs.items()}
        if self.others is not None:
            others = self.others(others)
        logits = noised["pred_logits"]
        matches = Matches(*copy_to(self.pairs, logits.device)[:, None].expand(3, len(logits), -1))
        # Of each image as many, with objects or without: the average is the same over parts of a batch.
        positives = logits.shape[1] * self.num_denoising / 2
        more = MoreOutputs(noised, matches, weight=self.weight, num_boxes=positives)
        return {**others, "more": {**others.pop("more", {}), "denoising": more}}
