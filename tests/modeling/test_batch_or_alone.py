"""An image gets in a padded batch what it gets alone, in every model that isolates images."""

import pytest
import torch
from detectron2.config import instantiate

from helpers.builders import small_config, small_model

NAMES = [
    "smca",
    "smca_single_scale",
    "detr",
    "smca_plus",
    "smca_plus_single_scale",
    "deformable_detr",
    "deformable_detr_two_stage",
]
# The second has fewer cells of stride 32 than a model has queries.
SIZES = [(128, 192), (40, 50), (97, 130)]


@pytest.mark.parametrize("is_drawn", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_batch_or_alone(name, is_drawn):
    """Before a training, when scores of padding and image are hardly apart, and with any weights."""
    model = small_model(name) if is_drawn else instantiate(small_config(name))
    model.double().eval()
    images = [{"image": 255 * torch.rand(3, h, w, dtype=torch.float64)} for h, w in SIZES]

    together = model(images)

    for image, result in zip(images, together, strict=True):
        alone, found = model([image])[0]["instances"], result["instances"]
        assert len(found) == len(alone)
        # Positions are float32.
        torch.testing.assert_close(found.scores, alone.scores, rtol=0, atol=1e-5)
        boxes = found.pred_boxes.tensor, alone.pred_boxes.tensor
        torch.testing.assert_close(*(b.sort(0).values for b in boxes), rtol=0, atol=1e-2)
