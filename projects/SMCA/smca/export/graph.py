"""The part of a detector that is exported: tensors in, tensors out, no lists, no sizes as numbers."""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from smca.errors import InputError
from smca.inference.fold_norms import fold_norms
from smca.layers.padding import mask_of_sizes
from smca.modeling import SMCA

INPUTS = ("images", "sizes")
RAW_OUTPUTS = ("logits", "boxes")
DETECTION_OUTPUTS = ("scores", "classes", "pixel_boxes")


class DetectionGraph(nn.Module):
    """``SMCA.forward`` in inference, without what is not a tensor.

    An image gets in a padded batch what it gets alone, however far it is padded: the graph pads further, to multiples
    of the largest stride, as :meth:`SMCA.preprocess_images` does for such a batch, and always masks. A model whose
    images are not isolated gets what :meth:`SMCA.forward` gives for the same batch.

    Attributes:
        output_names: of what is returned, in order.
        isolates: whether an image's outputs do not depend on its batch.
        multiple: of pixels that batches are padded to.
        coarsest: stride of the last level.
    """

    def __init__(self, model: nn.Module, *, detections: int | None = None):
        """
        Args:
            model: a copy of it is taken, its batch norms folded.
            detections: how many of the best detections of an image to give, too; None gives logits and boxes only.

        Raises:
            InputError: for a model of another kind, or a count below 1.
        """
        super().__init__()
        if not isinstance(model, SMCA):
            raise InputError(
                f"a {type(model).__name__} cannot be exported, only models of SMCA's class can"
            )
        if detections is not None and (type(detections) is not int or detections < 1):
            raise InputError(f"detections is {detections!r}, it must be at least 1")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        fold_norms(self.model)
        self.detections = detections
        self.isolates = model.isolate_images
        self.output_names = RAW_OUTPUTS if detections is None else RAW_OUTPUTS + DETECTION_OUTPUTS
        self.coarsest = model.neck.strides[-1]
        self.multiple = model.backbone.size_divisibility or 1
        if self.isolates:
            self.multiple = math.lcm(self.multiple, self.coarsest)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """From pixels to boxes.

        Args:
            images: (B, 3, H, W) float32, 0..255, in the model's channel order; what they hold beyond their sizes has
                no effect.
            sizes: (B, 2) int64 (height, width) of each image without padding, in pixels.

        Returns:
            Logits (B, Q, K) and boxes (B, Q, 4) as (cx, cy, w, h) in [0, 1] of the unpadded image, of the last decoder
            layer. With ``detections``, D at most, by falling score also scores (B, D), classes (B, D) int64 and boxes
            (B, D, 4) as (x1, y1, x2, y2) in pixels of ``images``.
        """
        # A product with the multiple, which sizes of levels divide: with a remainder of a division in their place each
        # of them would be a longer expression.
        missing = [
            (size + self.multiple - 1) // self.multiple * self.multiple - size
            for size in images.shape[-2:]
        ]
        pixels = F.pad(images, (0, missing[1], 0, missing[0]))
        mask = mask_of_sizes(pixels, sizes)
        pixels = (pixels - self.model.pixel_mean) / self.model.pixel_std
        outputs, _ = self.model.run_padded(
            pixels.masked_fill(mask[:, None], 0.0),
            mask,
            sizes.flip(-1).to(pixels.dtype),
            isolate=self.isolates,
            last_layer_only=True,
        )
        logits, boxes = outputs["pred_logits"][-1], outputs["pred_boxes"][-1]
        if self.detections is None:
            return logits, boxes
        return logits, boxes, *self.detect(logits, boxes, sizes)

    def detect(self, logits: Tensor, boxes: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        """Scores, classes and boxes in pixels of raw outputs, as :class:`smca.modeling.Postprocessor` has them."""
        scores, classes, queries = self.model.classification.select(logits, self.detections)
        chosen = boxes.gather(1, queries[..., None].expand(-1, -1, 4))
        scales = sizes.flip(-1).repeat(1, 2)[:, None].to(boxes.dtype)
        return scores, classes, box_convert(chosen, "cxcywh", "xyxy") * scales


def trace(graph: DetectionGraph) -> torch.export.ExportedProgram:
    """Of any batch, height and width.

    Raises:
        InputError: if PyTorch is too old.
    """
    if not hasattr(torch.export.Dim, "DYNAMIC"):
        raise InputError(f"export needs PyTorch 2.6 or newer, this is {torch.__version__}")
    # Two rows and three columns of the coarsest level: a length of 1, or the same one twice, would be taken for fixed.
    height, width = graph.coarsest + 11, 2 * graph.coarsest + 13
    images = torch.zeros(2, 3, height, width)
    sizes = torch.tensor([[height, width - 9], [height - 7, width]])
    dynamic = torch.export.Dim.DYNAMIC
    with torch.no_grad():
        return torch.export.export(
            graph,
            (images, sizes),
            dynamic_shapes={"images": {0: dynamic, 2: dynamic, 3: dynamic}, "sizes": {0: dynamic}},
        )
