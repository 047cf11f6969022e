"""What a run says about its images, without a model."""

import numpy as np
import torch
from detectron2.structures import Instances
from PIL import Image

from smca.data.image_file import MAX_PIXELS
from smca.inference.command.prediction_run import PredictionRun


class _NothingFound:
    max_pixels = MAX_PIXELS

    def stream(self, images):
        for image in images:
            yield Instances(image.shape[:2], scores=torch.zeros(0))


def test_8_bits_stored_in_16_are_told_once(tmp_path):
    paths = [tmp_path / name for name in ("black.png", "x.png", "y.png")]
    for path, most in zip(paths, (0, 255, 255), strict=True):
        values = np.linspace(0, most, 60).reshape(6, 10)
        Image.fromarray(values.astype(np.uint16)).save(path)
    said = []
    run = PredictionRun(predictor=_NothingFound(), complain=said.append)
    run.predict_files(paths)
    assert (run.num_images, run.num_problems) == (3, 0)
    (sentence,) = said
    assert sentence.startswith(
        f"{paths[1]}: 16-bit image whose values are all below 256 is nearly black; convert it to 8 bits"
    )
