"""The released implementations' outputs on drawn weights, through the converter."""

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.structures import ImageList

from helpers.builders import model_config
from helpers.goldens import drawn_images, drawn_weights, golden, released_keys
from smca.checkpoint import convert_released


@pytest.mark.parametrize(
    ("released", "config", "num_classes"),
    [("smca_single_scale", "smca_single_scale", 92), ("detr", "detr_published", 91)],
)
def test_equal_outputs_with_equal_weights(released, config, num_classes):
    expected = golden(released)
    seed = int(expected["seed"])
    model = model_config(config)
    model.num_classes = num_classes
    model = instantiate(model).eval()
    weights = drawn_weights(released_keys(released), seed)
    model.load_state_dict(convert_released(weights, num_classes), strict=True)

    with torch.no_grad():
        images = ImageList.from_tensors(drawn_images(expected["sizes"], seed))
        outputs, _ = model.run_network(images)

    for name in ("pred_logits", "pred_boxes"):
        first_and_last = outputs[name][[0, -1]].numpy()
        np.testing.assert_allclose(first_and_last, expected[name], rtol=0, atol=1e-5)
