"""The bundled digits data set, and the way from any registered data set to batches."""

from .builtin import ensure_digits, register_digits
from .detection_dataset import check_classes, load_detection_dataset
from .digits import PastedDigit, compose_image
from .digits_sources import DigitSources, load_sources
from .digits_spec import CLASSES, SPLITS, DigitsSpec
from .digits_store import DigitsError, make_digits
from .loader import TrainLoader, build_test_loader

__all__ = [
    "CLASSES",
    "SPLITS",
    "DigitSources",
    "DigitsError",
    "DigitsSpec",
    "PastedDigit",
    "TrainLoader",
    "build_test_loader",
    "check_classes",
    "compose_image",
    "ensure_digits",
    "load_detection_dataset",
    "load_sources",
    "make_digits",
    "register_digits",
]
