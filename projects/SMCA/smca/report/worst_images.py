"""The images with the most errors, drawn: the truth beside what was found."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from smca.data.image_file import MAX_DATA_SET_PIXELS, UnreadableImageError, read_image
from smca.evaluation import Boxes
from smca.text import class_name
from smca.visualization.boxes import Color, paint_boxes
from smca.visualization.html_page import data_url

from .error_kinds import CLASS, KINDS, MISSED, ErrorKinds
from .matching import NONE

_RIGHT, _WRONG, _IGNORED = (86, 190, 255), (255, 166, 50), (190, 190, 190)
_LEAST_SIDE, _MOST_SIDE = 448, 720
"""Pixels of a picture's longer side."""
_SAID = ("wrong class", "box is off", "wrong class and box", "duplicate", "nothing there", "missed")


@dataclasses.dataclass(frozen=True)
class WorstImage:
    """One image and its errors.

    Attributes:
        number: of the image in the ground truth.
        counts: of errors by kind, those that there are.
        detections, objects: how many are shown, and how many there are.
    """

    number: int
    counts: dict[str, int]
    detections: int
    objects: int


@dataclasses.dataclass(frozen=True)
class Pictures:
    """``src`` of what an image holds and of what was found; ``problem`` is a sentence if it cannot be read."""

    truth: str = ""
    found: str = ""
    problem: str = ""


def worst_images(kinds: ErrorKinds, threshold: float, count: int) -> list[WorstImage]:
    """Images by falling number of errors, those without left out.

    Args:
        kinds: of an evaluation.
        threshold: detections of a lower score are left out.
        count: at most so many images.
    """
    m = kinds.matches
    shown = m.detections.scores >= threshold
    wrong = shown & (kinds.kinds != NONE)
    missed = kinds.missed(shown)
    images = np.concatenate([m.detections.images[wrong], m.objects.images[missed]])
    of_kind = np.concatenate([kinds.kinds[wrong], np.full(missed.sum(), MISSED)])
    numbers, errors = np.unique(images, return_counts=True)
    chosen = numbers[np.argsort(-errors, kind="stable")][:count].tolist()
    return [
        WorstImage(
            number=number,
            counts={
                kind: amount
                for k, kind in enumerate(KINDS)
                if (amount := int(((images == number) & (of_kind == k)).sum()))
            },
            detections=int((shown & (m.detections.images == number)).sum()),
            objects=int((m.objects.images == number).sum()),
        )
        for number in chosen
    ]


def paint(
    kinds: ErrorKinds, threshold: float, number: int, path: str, class_names: tuple[str, ...]
) -> Pictures:
    """Draw an image's objects, and detections with what is wrong with them; those are on top.

    Args:
        kinds, threshold: as for :func:`worst_images`.
        number: of the image.
        path: its file.
        class_names: of classes 0 .. K-1.
    """
    try:
        image = read_image(path, format="RGB", max_pixels=MAX_DATA_SET_PIXELS)
    except UnreadableImageError as error:
        return Pictures(problem=str(error))
    side = max(image.shape[:2])
    scale = min(_MOST_SIDE, max(_LEAST_SIDE, side)) / side
    m = kinds.matches
    shown = m.detections.scores >= threshold
    missed = m.missed(shown) & (m.objects.images == number)
    there = np.flatnonzero(m.objects.images == number)
    truth = _painted(
        image,
        m.objects[there],
        [_name(m.objects, i, class_names) + (" not found" if missed[i] else "") for i in there],
        [_WRONG if missed[i] else _RIGHT for i in there],
        scale,
    )
    found = np.flatnonzero(shown & (m.detections.images == number))[::-1]
    # What is wrong last, and so on top with its reason.
    found = found[np.argsort(kinds.kinds[found] != NONE, kind="stable")]
    predictions = _painted(
        image,
        m.detections[found],
        [_label(kinds, i, class_names) for i in found],
        [_color(kinds, i) for i in found],
        scale,
    )
    return Pictures(truth=truth, found=predictions)


def _painted(
    image: np.ndarray, boxes: Boxes, labels: list[str], colors: list[Color], scale: float
) -> str:
    corners = boxes.boxes.copy()
    corners[:, 2:] += corners[:, :2]
    painted = paint_boxes(image, corners.tolist(), labels, colors, scale=scale)
    return data_url(Image.fromarray(painted), "JPEG", quality=85)


def _name(boxes: Boxes, i: int, class_names: tuple[str, ...]) -> str:
    name = class_name(int(boxes.classes[i]), class_names)
    return name if len(name) <= 24 else f"{name[:23]}…"


def _label(kinds: ErrorKinds, i: int, class_names: tuple[str, ...]) -> str:
    detections, kind = kinds.matches.detections, kinds.kinds[i]
    text = f"{_name(detections, i, class_names)} {detections.scores[i]:.2f}"
    if kind == NONE:
        return text
    said = _SAID[kind]
    if kind == CLASS:
        said = f"is {_name(kinds.matches.objects, kinds.target[i], class_names)}"
    return f"{text}: {said}"


def _color(kinds: ErrorKinds, i: int) -> Color:
    if kinds.kinds[i] != NONE:
        return _WRONG
    return _IGNORED if kinds.matches.ignored[i] else _RIGHT
