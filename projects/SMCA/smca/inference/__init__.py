"""Prediction: images of any kind, many at a time, and the command ``smca-predict``."""

from smca.data.image_file import read_image

from .predictor import Predictor

__all__ = ["Predictor", "read_image"]
