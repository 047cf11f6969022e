"""Whether loaded data sets suit the model, and each other."""

import logging
from collections.abc import Iterable, Sequence

import numpy as np
from detectron2.data import MetadataCatalog

from smca.errors import InputError

from .sources.coco_tables import describe_difference, match_classes
from .sources.detection_dataset import as_names

logger = logging.getLogger(__name__)


def check_classes(dataset: Sequence[dict], num_classes: int, names: str) -> None:
    """Every object's class against the model's.

    Raises:
        InputError: if an object has a class that a model of ``num_classes`` does not know.
    """
    for record in dataset:
        for annotation in record.get("annotations", ()):
            if not 0 <= annotation["category_id"] < num_classes:
                raise InputError(
                    f"{names}: {record['file_name']} has an object of class {annotation['category_id']}, but the "
                    f"model has num_classes={num_classes} (classes 0 to {num_classes - 1}); "
                    "set model.num_classes to the data set's number of classes, or to null to take it from there"
                )


def check_has_objects(dataset: Sequence[dict], names: str) -> None:
    """Whether a training has something to learn.

    Args:
        dataset: dataset dicts to train on.
        names: what the data set is called.

    Raises:
        InputError: if no image has an object.
    """
    counts = _count_objects(dataset)
    if not counts.any():
        raise InputError(
            f"{names} has no object to learn from: its {len(counts)} images have no annotations, or only crowds and "
            "boxes that cannot be used; smca-check-dataset says which"
        )


def _count_objects(dataset: Sequence[dict]) -> np.ndarray:
    """(N,) objects of each image, crowds not counted."""
    return np.array(
        [sum(not a.get("iscrowd", 0) for a in r.get("annotations", ())) for r in dataset]
    )


def warn_crowded(dataset: Sequence[dict], num_queries: int, names: str) -> None:
    """Say in the log how many images of a training have more objects than the model can find.

    Args:
        dataset: dataset dicts to train on.
        num_queries: of the model.
        names: what the data set is called.
    """
    counts = _count_objects(dataset)
    crowded = int((counts > num_queries).sum())
    if crowded:
        most = int(counts.argmax())
        logger.warning(
            f"{names}: {crowded} of {len(counts)} images have more objects than the model's {num_queries} queries, "
            f"and what is beyond them cannot be learned or found; the most has {dataset[most]['file_name']}, "
            f"{counts[most]}: set model.decoder.num_queries above that",
        )


def check_evaluated_classes(names: str | Iterable[str], num_classes: int) -> None:
    """The model's classes against those of the data.

    Args:
        names: registered data sets to evaluate on, already loaded.
        num_classes: of the model.

    Raises:
        InputError: if the model can predict a class that a data set does not have.
    """
    for name in as_names(names):
        classes = MetadataCatalog.get(name).get("thing_classes")
        if classes and num_classes > len(classes):
            raise InputError(
                f"{name} has {len(classes)} classes, but the model has num_classes={num_classes} and its other "
                "classes could not be evaluated; set model.num_classes to the data set's number of classes, or to "
                "null to take it from there"
            )


def check_same_class_names(train: str | Iterable[str], test: str | Iterable[str]) -> None:
    """The data to train on against the data to evaluate on.

    Args:
        train, test: registered data sets, already loaded.

    Raises:
        InputError: if their classes have other names or another order, so that the evaluation would compare what
            the model calls class 3 with something else.
    """
    first = as_names(train)[0]
    for name in as_names(test):
        known, other = (MetadataCatalog.get(n).get("thing_classes") for n in (first, name))
        difference = describe_difference(known or (), other or ())
        # Upper and lower case and blanks around a name make no difference.
        same = list(match_classes(other or (), known or ()).values()) == list(
            range(len(other or ()))
        )
        if known and other and difference and not (same and len(known) == len(other)):
            raise InputError(
                f"{first}, to train on, and {name}, to evaluate on, have different classes: {difference}; give both "
                "the same categories"
            )
