"""The bundled digits data set, and the way from any registered data set to batches."""

from .builtin import ensure_digits, register_digits
from .class_names import class_names, fill_num_classes
from .custom_dataset import load_custom_dataset
from .dataset_checks import check_classes, check_has_objects, warn_crowded
from .detection_dataset import load_detection_dataset
from .detection_mapper import DetectionMapper
from .digits import PastedDigit, compose_image
from .digits_sources import DigitSources, load_sources
from .digits_spec import CLASSES, SPLITS, DigitsSpec
from .digits_store import DigitsError, make_digits
from .loader import TrainLoader, build_test_loader

__all__ = [
    "CLASSES",
    "SPLITS",
    "DetectionMapper",
    "DigitSources",
    "DigitsError",
    "DigitsSpec",
    "PastedDigit",
    "TrainLoader",
    "build_test_loader",
    "check_classes",
    "check_has_objects",
    "class_names",
    "compose_image",
    "ensure_digits",
    "fill_num_classes",
    "load_custom_dataset",
    "load_detection_dataset",
    "load_sources",
    "make_digits",
    "register_digits",
    "warn_crowded",
]
