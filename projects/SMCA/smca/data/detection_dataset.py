"""A registered data set, checked before any long work starts."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts


def load_detection_dataset(names: str | Sequence[str], *, filter_empty: bool = False) -> list[dict]:
    """Dataset dicts of one or several registered data sets.

    Args:
        names: names in Detectron2's ``DatasetCatalog``.
        filter_empty: leave out images without objects; DETR keeps them.

    Raises:
        ValueError: if a name is not registered, its annotation file is missing or no COCO json, or an image file is
            missing.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in DatasetCatalog.list():
            raise ValueError(
                f"data set {name!r} is not registered: register it with "
                "detectron2.data.datasets.register_coco_instances, or correct the name in the config's dataloader"
            )
        check_coco_json(MetadataCatalog.get(name).get("json_file"), name)
    try:
        dicts = get_detection_dataset_dicts(names, filter_empty=filter_empty)
    except FileNotFoundError as error:
        raise ValueError(
            f"data set {', '.join(names)}: {error.filename or error} does not exist; put it there, or set "
            "DETECTRON2_DATASETS to the folder that holds the data sets"
        ) from error
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"data set {', '.join(names)}: its annotations are no COCO json ({type(error).__name__}: {error}); "
            "every image, annotation and category needs COCO's fields"
        ) from error
    missing = [d["file_name"] for d in dicts if not os.path.isfile(d["file_name"])]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(dicts)} image files of {', '.join(names)} are missing, the first is "
            f"{missing[0]}; check the image root the data set was registered with"
        )
    for record in dicts:
        if any(len(a.get("bbox", ())) != 4 for a in record.get("annotations", ())):
            raise ValueError(
                f"data set {', '.join(names)}: its annotations are no COCO json: {record['file_name']} has an "
                "object without a bbox of four numbers"
            )
    return dicts


def check_classes(dataset: Sequence[dict], num_classes: int, names: str) -> None:
    """
    Raises:
        ValueError: if an object has a class that a model of ``num_classes`` does not know.
    """
    for record in dataset:
        for annotation in record.get("annotations", ()):
            if not 0 <= annotation["category_id"] < num_classes:
                raise ValueError(
                    f"{names}: {record['file_name']} has an object of class {annotation['category_id']}, but the "
                    f"model has num_classes={num_classes} (classes 0 to {num_classes - 1}); "
                    "set model.num_classes to the data set's number of classes"
                )


def check_evaluated_classes(names: str | Sequence[str], num_classes: int) -> None:
    """
    Args:
        names: registered data sets to evaluate on, already loaded.
        num_classes: of the model.

    Raises:
        ValueError: if the model can predict a class that a data set does not have.
    """
    for name in [names] if isinstance(names, str) else names:
        ids = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id")
        if ids and num_classes > len(ids):
            raise ValueError(
                f"{name} has {len(ids)} classes, but the model has num_classes={num_classes} and its other classes "
                "could not be evaluated; set model.num_classes to the data set's number of classes"
            )


def check_coco_json(path: str | None, name: str) -> None:
    """
    Args:
        path: annotation file, or None for a data set that is not made from one.
        name: the data set, for messages.

    Raises:
        ValueError: if the file exists and is no COCO detection json. A missing file is made by the data set's own
            loading function or reported there.
    """
    if path is None or not Path(path).is_file():
        return
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} (data set {name!r}) is no json file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} (data set {name!r}) is no COCO json: its top level is no object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            raise ValueError(
                f"{path} (data set {name!r}) is no COCO json for training: it has no list {key!r}"
            )
