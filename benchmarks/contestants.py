"""Detectors that benchmarks put beside each other, with drawn weights, as calls: a prediction, a training step.

The package's, the same written down (:mod:`plain_smca`), Detectron2's Faster R-CNN, and those of transformers with a
ResNet-50, 300 queries and 80 classes. Detectors of transformers are called with normalised pixels, without making
detections of what they give, which favours them by a little.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from plain_smca import package_and_plain
from torch import Tensor, nn

from smca import Predictor, model_zoo
from smca.inference.fold_norms import fold_norms

NUM_CLASSES, NUM_QUERIES = 80, 300
OF_THE_ZOO = {
    "SMCA single-scale": "smca_single_scale_r50_50ep",
    "SMCA": "smca_r50_50ep",
    "SMCA plus": "smca_plus_r50_12ep",
    "DETR": "detr_r50_50ep",
    "Deformable DETR": "deformable_detr_r50_50ep",
    "Faster R-CNN FPN": "faster_rcnn_fpn_r50_3x",
}
WRITTEN_DOWN = {f"{name}, written down": OF_THE_ZOO[name] for name in ("SMCA single-scale", "SMCA")}
# Prefix of the classes in transformers, and the features that they take.
OF_TRANSFORMERS = {
    "DETR of transformers": ("Detr", ["stage4"]),
    "Conditional DETR of transformers": ("ConditionalDetr", ["stage4"]),
    "Deformable DETR of transformers": ("DeformableDetr", ["stage2", "stage3", "stage4"]),
}
NAMES = (*OF_THE_ZOO, *WRITTEN_DOWN, *OF_TRANSFORMERS)
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def prediction(
    name: str,
    *,
    size: tuple[int, int] = (800, 1066),
    batch: int = 1,
    precision: str = "float32",
    device: str = "cpu",
    num_queries: int = NUM_QUERIES,
    compiled: bool = False,
) -> Callable[[], Any]:
    """Images of noise, pixels to detections, as a user's :class:`smca.Predictor` runs them.

    Args:
        name: of :data:`NAMES`.
        size: (height, width).
        batch: images at a time.
        precision: "float32", or "bfloat16" by autocast.
        device: where to run.
        num_queries: of those of the zoo that have queries.
        compiled: the network through ``torch.compile``, for those of the zoo.
    """
    autocast = _autocast(precision, device)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    if name in OF_THE_ZOO:
        model = _of_the_zoo(name, num_queries).eval()
        fold_norms(model)
        model.to(memory_format=torch.channels_last)
        model = Predictor(model=model, device=device).model
        if compiled:
            model.run_padded = torch.compile(model.run_padded, dynamic=True)
        inputs = [{"image": image} for image in pixels]
    else:
        model = _other(name).eval().to(device)
        inputs = ((pixels.float() - 120) / 60).to(device)

    @torch.inference_mode()
    def call() -> Any:
        with autocast():
            return model(inputs)

    return call


def training_step(
    name: str,
    *,
    size: tuple[int, int] = (800, 1066),
    batch: int = 2,
    precision: str = "float32",
    device: str = "cpu",
    objects: int = 7,
    num_queries: int = NUM_QUERIES,
    compiled: bool = False,
) -> Callable[[], None]:
    """Forward, matching and losses of all layers, backward, clipping, AdamW; with the recipe's dropout.

    The written-down form gets the package's matching and losses, so that the network is what differs.

    Args:
        name, size, batch, precision, device, num_queries, compiled: as for :func:`prediction`.
        objects: in each image.
    """
    autocast = _autocast(precision, device)
    images = _images(batch, size, objects)
    if name in OF_THE_ZOO:
        model = _of_the_zoo(name, num_queries).train().to(device)
        losses = model
        if compiled:
            model.run_padded = torch.compile(model.run_padded, dynamic=True)
    elif name in WRITTEN_DOWN:
        ours, model = package_and_plain(WRITTEN_DOWN[name])
        ours, model = ours.to(device), model.to(device)

        def losses(batched_inputs: list[dict]) -> dict[str, Tensor]:
            outputs = model(ours.preprocess_images(batched_inputs).tensor)
            return ours.criterion(outputs, ours.prepare_targets(batched_inputs))
    else:
        model = _other(name).train().to(device)
        pixels = torch.stack([image["image"] for image in images]).to(device)
        pixels, labels = (pixels.float() - 120) / 60, [_labels(x, device) for x in images]

        def losses(_: list[dict]) -> dict[str, Tensor]:
            return {"loss": model(pixels, labels=labels).loss}

    trained = [x for x in model.parameters() if x.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=1e-4)

    def call() -> None:
        optimizer.zero_grad()
        # Faster R-CNN writes into one.
        with EventStorage(), autocast():
            total = sum(losses(images).values())
        total.backward()
        nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()

    return call


def _of_the_zoo(name: str, num_queries: int) -> nn.Module:
    torch.manual_seed(0)
    config = model_zoo.get_config(OF_THE_ZOO[name]).model
    if num_queries != NUM_QUERIES:
        config.decoder.num_queries = num_queries
    model = instantiate(config)
    _tame(model)
    return model


def _other(name: str) -> nn.Module:
    if name in WRITTEN_DOWN:
        return package_and_plain(WRITTEN_DOWN[name])[1]
    # Not at the top: those who leave them out need not have it.
    import transformers

    prefix, features = OF_TRANSFORMERS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{prefix}Config")(
        backbone_config=transformers.ResNetConfig(out_features=features),
        num_labels=NUM_CLASSES,
        num_queries=NUM_QUERIES,
        auxiliary_loss=True,
    )
    model = getattr(transformers, f"{prefix}ForObjectDetection")(config)
    for name, parameter in model.named_parameters():
        # Its own freezing looks for other names and leaves nothing to train; stem and first stage it is elsewhere.
        if "backbone" in name and "encoder.stages.0." not in name and ".embedder." not in name:
            parameter.requires_grad_(True)
    _tame(model)
    return model


def _tame(model: nn.Module) -> None:
    """Activations of a drawn backbone stay in range."""
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(4.0)


def _autocast(precision: str, device: str) -> Callable[[], Any]:
    dtype = PRECISIONS[precision]
    if dtype is None:
        return nullcontext
    return lambda: torch.autocast(device, dtype)


def _images(batch: int, size: tuple[int, int], objects: int) -> list[dict]:
    generator = torch.Generator().manual_seed(0)
    height, width = size
    images = []
    for _ in range(batch):
        corners = torch.rand(objects, 2, 2, generator=generator) * 0.5
        boxes = torch.cat([corners[:, 0], corners[:, 0] + 0.02 + corners[:, 1] * 0.9], dim=1)
        instances = Instances(size)
        instances.gt_boxes = Boxes(boxes * torch.tensor([width, height] * 2))
        instances.gt_classes = torch.randint(NUM_CLASSES, (objects,), generator=generator)
        pixels = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
        images.append({"image": pixels, "instances": instances})
    return images


def _labels(image: dict, device: str) -> dict[str, Tensor]:
    """As detectors of transformers take them, boxes as (cx, cy, w, h) in [0, 1]."""
    instances = image["instances"]
    height, width = instances.image_size
    boxes = instances.gt_boxes.tensor / torch.tensor([width, height] * 2)
    corner, other = boxes[:, :2], boxes[:, 2:]
    return {
        "class_labels": instances.gt_classes.to(device),
        "boxes": torch.cat([(corner + other) / 2, other - corner], 1).to(device),
    }
