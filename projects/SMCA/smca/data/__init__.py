"""The bundled digits data set, and the way from any registered data set to batches."""

from smca.data.digits.compose import PastedDigit, compose_image
from smca.data.digits.registration import ensure_digits, register_digits
from smca.data.digits.sources import DigitSources, load_sources
from smca.data.digits.spec import CLASSES, SPLITS, DigitsSpec
from smca.data.digits.store import DigitsError, make_digits
from smca.data.sources.class_names import class_ids, class_names, fill_num_classes
from smca.data.sources.custom_dataset import load_custom_dataset
from smca.data.sources.detection_dataset import load_detection_dataset

from .dataset_checks import (
    check_classes,
    check_evaluated_classes,
    check_has_objects,
    check_same_class_names,
    warn_crowded,
)
from .detection_mapper import DetectionMapper
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
    "check_evaluated_classes",
    "check_has_objects",
    "check_same_class_names",
    "class_ids",
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
