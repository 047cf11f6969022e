"""Detectors that benchmarks put beside each other, with drawn weights, as calls: a prediction, a training step.

The package's, the same written down (:mod:`plain_smca`), Detectron2's Faster R-CNN, and those of transformers with a
ResNet-50, 300 queries and 80 classes. Those written down and of transformers are called with normalised pixels, without
making detections of what they give, which favours them by a little.
"""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from drawn import NUM_CLASSES, drawn_image, keep_in_range
from plain_smca import package_and_plain
from torch import Tensor, nn
from torchvision.ops import box_convert

from smca import model_zoo
from smca.compilation import compile_parts
from smca.inference.fold_norms import fold_norms

NUM_QUERIES = 300
OF_THE_ZOO = {
    "SMCA single-scale": "smca_single_scale_r50_50ep",
    "SMCA": "smca_r50_50ep",
    "SMCA plus": "smca_plus_r50_12ep",
    "DETR": "detr_r50_50ep",
    "Deformable DETR": "deformable_detr_r50_50ep",
    "Faster R-CNN FPN": "faster_rcnn_fpn_r50_3x",
}
WRITTEN_DOWN = {f"{name}, written down": OF_THE_ZOO[name] for name in ("SMCA single-scale", "SMCA")}
WITHOUT_PRIOR = "SMCA single-scale, written down, without prior"
# Prefix of the classes in transformers, and the features that they take.
OF_TRANSFORMERS = {
    "DETR of transformers": ("Detr", ["stage4"]),
    "Conditional DETR of transformers": ("ConditionalDetr", ["stage4"]),
    "Deformable DETR of transformers": ("DeformableDetr", ["stage2", "stage3", "stage4"]),
}
NAMES = (*OF_THE_ZOO, *WRITTEN_DOWN, *OF_TRANSFORMERS)
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
COCO_SIZE = (800, 1066)
CPU = torch.device("cpu")


def prediction(
    name: str,
    *,
    size: tuple[int, int] = COCO_SIZE,
    batch: int = 1,
    num_queries: int = NUM_QUERIES,
    precision: str = "float32",
    device: torch.device = CPU,
    compiled: bool = False,
) -> Callable[[], Any]:
    """Images of noise, pixels to detections; those of the zoo as :class:`smca.Predictor` sets them up.

    Args:
        name: of :data:`NAMES`.
        size: (height, width).
        batch: images at a time.
        num_queries: of those of the zoo that have queries.
        precision: "float32", or "bfloat16" by autocast.
        device: where the model is; images come from the host.
        compiled: whether by ``torch.compile``, for those of the zoo that are the package's.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, 3, *size), generator=generator, dtype=torch.uint8)
    if name in OF_THE_ZOO:
        model, inputs = _of_the_zoo(name, num_queries), [{"image": image} for image in pixels]
        fold_norms(model)
        model.to(device, memory_format=torch.channels_last)
    else:
        model, inputs = _other(name).to(device), _normalised(pixels).to(device)
    if compiled:
        compile_parts(model)
    # Counting operations in inference mode fails on inputs that require a gradient.
    model.eval().requires_grad_(False)
    dtype = PRECISIONS[precision]

    @torch.inference_mode()
    def call() -> Any:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            return model(inputs)

    return call


def training_step(
    name: str, *, size: tuple[int, int] = COCO_SIZE, batch: int = 1, objects: int = 7
) -> Callable[[], None]:
    """Forward, matching and losses of all layers, backward, clipping, AdamW; with the recipe's dropout.

    The written-down form gets the package's matching and losses, so that the network is what differs.

    Args:
        name: of :data:`NAMES`, or :data:`WITHOUT_PRIOR`.
        objects: in each image; the others are those of :func:`prediction`.
    """
    generator = torch.Generator().manual_seed(0)
    images = [drawn_image(size, generator, objects=objects) for _ in range(batch)]
    if name in OF_THE_ZOO:
        model = _of_the_zoo(name, NUM_QUERIES)
        losses = model
    elif name in (*WRITTEN_DOWN, WITHOUT_PRIOR):
        ours, model = package_and_plain(WRITTEN_DOWN[name.removesuffix(", without prior")])
        model.has_prior = name != WITHOUT_PRIOR

        def losses(batched_inputs: list[dict]) -> dict[str, Tensor]:
            outputs = model(ours.preprocess_images(batched_inputs).tensor)
            return ours.criterion(outputs, ours.prepare_targets(batched_inputs))
    else:
        model = _other(name)
        pixels = _normalised(torch.stack([image["image"] for image in images]))
        labels = [_labels(image) for image in images]

        def losses(_: list[dict]) -> dict[str, Tensor]:
            return {"loss": model(pixels, labels=labels).loss}

    model.train()
    trained = [x for x in model.parameters() if x.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=1e-4)

    def call() -> None:
        optimizer.zero_grad()
        # Faster R-CNN writes into one.
        with EventStorage():
            sum(losses(images).values()).backward()
        nn.utils.clip_grad_norm_(trained, 0.1)
        optimizer.step()

    return call


def _of_the_zoo(name: str, num_queries: int) -> nn.Module:
    torch.manual_seed(0)
    config = model_zoo.get_config(OF_THE_ZOO[name]).model
    if num_queries != NUM_QUERIES:
        config.decoder.num_queries = num_queries
    model = instantiate(config)
    keep_in_range(model)
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
        # As in the others; its own default is 0.
        attention_dropout=0.1,
    )
    model = getattr(transformers, f"{prefix}ForObjectDetection")(config)
    for parameter_name, parameter in model.named_parameters():
        if "backbone" in parameter_name:
            # As in the others all but stem and first stage train; it freezes by names that this backbone does not have.
            frozen = ".embedder." in parameter_name or "encoder.stages.0." in parameter_name
            parameter.requires_grad_(not frozen)
    keep_in_range(model)
    return model


def _normalised(pixels: Tensor) -> Tensor:
    return (pixels.float() - 120) / 60


def _labels(image: dict) -> dict[str, Tensor]:
    """As detectors of transformers take them, boxes as (cx, cy, w, h) in [0, 1]."""
    instances = image["instances"]
    height, width = instances.image_size
    relative = instances.gt_boxes.tensor / torch.tensor([width, height, width, height])
    boxes = box_convert(relative, "xyxy", "cxcywh")
    return {"class_labels": instances.gt_classes, "boxes": boxes}
