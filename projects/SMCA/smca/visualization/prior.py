"""The spatial prior of detections, drawn over their image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.evaluation import inference_context
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.ops import box_convert, nms

from smca.errors import InputError
from smca.layers import gaussian_log_prior
from smca.modeling import SMCA, SpatialPrior
from smca.modeling.classification import class_scores

from .boxes import caption_bar, paint_boxes
from .fonts import class_label, draw_text, text_size
from .heat import blend_heat, draw_cross, draw_dot, spread_heat

_WHITE = (255, 255, 255)
_PANEL_WIDTH, _CAPTION_HEIGHT, _GAP = 375, 30, 8
_MAX_COLUMNS = 3


@dataclass(frozen=True)
class DetectionPrior:
    """One detection and where its query looked in the last decoder layer.

    All coordinates are in pixels of the model's input.

    Attributes:
        box: (x0, y0, x1, y1).
        score: in [0, 1].
        class_id: contiguous class.
        center: (x, y) that heads, levels and layers share.
        head_centers: (S, H, 2) as (x, y), with each head's own offset; H is 1 where they share it.
        maps: (S, H, height, width) in [0, 1], the prior of every level and head.
        level_weights: (S,) scale-selection weights, or None where all levels weigh the same.
        strides: S strides of the levels.
    """

    box: np.ndarray
    score: float
    class_id: int
    center: np.ndarray
    head_centers: np.ndarray
    maps: np.ndarray
    level_weights: np.ndarray | None
    strides: tuple[int, ...]


def prior_maps(
    centers: Tensor, scales: Tensor, *, beta: float, stride: int, size: tuple[int, int]
) -> Tensor:
    """Equation (4) at every pixel instead of at every cell, so that nothing is interpolated.

    Coordinate (i, j) is at pixel (i * stride, j * stride), and there the two agree.

    Args:
        centers: (Q, H, 2) as (x, y) in cells.
        scales: (Q, H, 2) as (s_x, s_y) in 1 / cells.
        beta: the level's bandwidth.
        stride: pixels per cell.
        size: (height, width) in pixels.

    Returns:
        (Q, H, height, width) in [0, 1].
    """
    in_pixels = (centers * stride)[None], (scales / stride)[None]
    log_prior = gaussian_log_prior(*in_pixels, size, beta=beta)
    return log_prior.exp().unflatten(-1, size)[0].transpose(0, 1)


def detection_priors(
    model: SMCA, batched_input: Mapping, *, count: int = 6, score_threshold: float = 0.0
) -> list[DetectionPrior]:
    """The best detections of one image and the last decoder layer's prior of their queries.

    Args:
        model: with a modulation; its training mode is left as it is.
        batched_input: one entry of Detectron2's ``batched_inputs``.
        count: number of detections at most. Of queries that found the same object only the best
            one counts.
        score_threshold: others are left out, but never the best one.

    Returns:
        By falling score.

    Raises:
        InputError: if the model has no spatial prior.
    """
    if getattr(getattr(model, "decoder", None), "modulation", None) is None:
        raise InputError(
            "this model has no spatial prior to draw, its decoder has no modulation (plain DETR); "
            "take a model of an SMCA config"
        )
    with inference_context(model), torch.no_grad():
        images = model.preprocess_images([batched_input])
        outputs, decoded = model.run_network(images, last_layer_only=True)
    height, width = size = images.image_sizes[0]
    prior = decoded.priors[-1]
    if not isinstance(prior, SpatialPrior):
        raise InputError(
            f"this model has no spatial prior to draw, its decoder's modulation gives a {type(prior).__name__}; take a "
            "model of an SMCA config"
        )
    image_size = prior.center_logits.new_tensor([width, height])
    scores, classes = class_scores(model.classification, outputs["pred_logits"][0, 0])
    boxes = box_convert(outputs["pred_boxes"][0, 0], "cxcywh", "xyxy") * image_size.repeat(2)
    queries = nms(boxes, scores, iou_threshold=0.5)[:count]
    queries = queries[: max(1, int((scores[queries] >= score_threshold).sum()))]

    strides = model.neck.strides
    centers = [level[0, queries] + prior.cell_origin for level in prior.centers]
    head_centers = [level * stride for level, stride in zip(centers, strides, strict=True)]
    maps = [
        prior_maps(c, s[0, queries], beta=beta, stride=stride, size=size)
        for c, s, beta, stride in zip(centers, prior.scales, prior.betas, strides, strict=True)
    ]
    shared = prior.center_logits[0, queries].sigmoid() * image_size
    weights = None if prior.level_weights is None else prior.level_weights[0, queries]
    return [
        DetectionPrior(
            box=boxes[query].cpu().numpy(),
            score=scores[query].item(),
            class_id=classes[query].item(),
            center=shared[k].cpu().numpy(),
            head_centers=np.stack([level[k].cpu().numpy() for level in head_centers]),
            maps=np.stack([level[k].cpu().numpy() for level in maps]),
            level_weights=None if weights is None else weights[k].cpu().numpy(),
            strides=tuple(strides),
        )
        for k, query in enumerate(queries)
    ]


def draw_priors(
    model: SMCA,
    batched_input: Mapping,
    *,
    class_names: Sequence[str] = (),
    count: int = 6,
    score_threshold: float = 0.0,
    per_head: bool = False,
) -> np.ndarray:
    """A grid of detections, each with its prior as a heat map over the image.

    The heat map is the mean over the heads divided by its largest value. Marked are the box, the
    shared centre (cross) and the heads' own centres (dots). With several levels a row holds one
    detection, a panel per level.

    Args:
        model, batched_input, count, score_threshold: see :func:`detection_priors`.
        class_names: names of the classes; their numbers where it is empty.
        per_head: one detection per row, a panel per head (of the finest level) after the mean.

    Returns:
        (height, width, 3) RGB uint8.

    Raises:
        InputError: as :func:`detection_priors`.
    """
    priors = detection_priors(model, batched_input, count=count, score_threshold=score_threshold)
    image = batched_input["image"].cpu().numpy().transpose(1, 2, 0).astype(np.uint8)
    if model.input_format == "BGR":
        image = image[..., ::-1]
    rows = [_panels(prior, class_names, per_head) for prior in priors]
    if max(len(row) for row in rows) == 1:
        flat = [panel for row in rows for panel in row]
        columns = 2 if len(flat) in (2, 4) else _MAX_COLUMNS
        rows = [flat[i : i + columns] for i in range(0, len(flat), columns)]
    return _draw_grid(image, rows)


@dataclass(frozen=True)
class _Panel:
    caption: str
    heat: np.ndarray
    head_centers: np.ndarray
    prior: DetectionPrior

    @property
    def has_heads(self) -> bool:
        """Whether heads have centres of their own."""
        return self.prior.maps.shape[1] > 1


def _panels(prior: DetectionPrior, class_names: Sequence[str], per_head: bool) -> list[_Panel]:
    name = class_label(prior.class_id, class_names)
    title = f"{name if class_names else f'class {name}'}  {prior.score:.2f}"
    if per_head:
        heads = [
            _Panel(f"head {h + 1}", prior.maps[0, h], prior.head_centers[0, h : h + 1], prior)
            for h in range(prior.maps.shape[1])
        ]
        return [_Panel(title, prior.maps[0].mean(0), prior.head_centers[0], prior), *heads]
    if len(prior.strides) == 1:
        return [_Panel(title, prior.maps[0].mean(0), prior.head_centers[0], prior)]
    panels = []
    for s, stride in enumerate(prior.strides):
        caption = f"stride {stride}"
        if prior.level_weights is not None:
            caption += f", weight {prior.level_weights[s]:.2f}"
        if s == 0:
            caption = f"{title}   {caption}"
        panels.append(_Panel(caption, prior.maps[s].mean(0), prior.head_centers[s], prior))
    return panels


def _draw_grid(image: np.ndarray, rows: Sequence[Sequence[_Panel]]) -> np.ndarray:
    columns = max(len(row) for row in rows)
    drawn = [[_draw_panel(image, panel) for panel in row] for row in rows]
    height, width = drawn[0][0].shape[:2]
    canvas = np.full(
        (len(rows) * (height + _GAP), columns * (width + _GAP) - _GAP, 3), 255, np.uint8
    )
    for y, row in enumerate(drawn):
        for x, panel in enumerate(row):
            top, left = y * (height + _GAP), x * (width + _GAP)
            canvas[top : top + height, left : left + width] = panel
    return np.vstack([canvas, _legend(canvas.shape[1], has_heads=rows[0][0].has_heads)])


def _draw_panel(image: np.ndarray, panel: _Panel) -> np.ndarray:
    """The image in a width of its own, with the heat map, the box and the centres over it."""
    height, width = image.shape[:2]
    scale = _PANEL_WIDTH / width
    size = _PANEL_WIDTH, max(1, round(height * scale))
    pixels = size[0] / width, size[1] / height
    blended = blend_heat(
        Image.fromarray(np.ascontiguousarray(image)).resize(size),
        spread_heat(panel.heat, size, stride=pixels),
    )
    prior = panel.prior
    painted = paint_boxes(blended, [prior.box * scale], [""], [_WHITE])
    picture = Image.fromarray(painted)
    draw = ImageDraw.Draw(picture)
    draw_cross(draw, *prior.center * scale)
    if panel.has_heads:
        for center in panel.head_centers * scale:
            draw_dot(draw, *center)
    return np.vstack([caption_bar(panel.caption, _PANEL_WIDTH, _CAPTION_HEIGHT), picture])


def _legend(width: int, *, has_heads: bool) -> np.ndarray:
    """What the marks mean."""
    bar = Image.fromarray(caption_bar("", width, _CAPTION_HEIGHT))
    draw, middle = ImageDraw.Draw(bar), _CAPTION_HEIGHT / 2
    draw.rectangle([8, middle - 5, 24, middle + 5], outline=_WHITE, width=1)
    draw_cross(draw, 94, middle)
    entries = {30: "box", 106: "centre"}
    if has_heads:
        draw_dot(draw, 180, middle)
        entries[190] = "centres of the heads"
    for x, text in entries.items():
        _, ascent, descent = text_size(text, 15)
        draw_text(bar, (x, middle - (ascent + descent) / 2), text, 15, "white")
    return np.asarray(bar)
