"""A data set as commands take it: a registered name, perhaps of the user's own code, or files."""

import importlib
import os
import sys
from collections.abc import Sequence

from detectron2.data import DatasetCatalog

from smca.errors import InputError

from .image_files import describe_absence
from .sources.annotations import choose_split, find_image_root, is_folder_format
from .sources.coco_source import CocoSource, register_coco


def import_modules(modules: Sequence[str]) -> None:
    """Import modules of the user's, of the current folder, too, which register data sets.

    What goes wrong within them keeps its traceback.

    Raises:
        InputError: if there is no such module.
    """
    if modules:
        sys.path.insert(0, os.getcwd())
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            # One that it imports itself has another name.
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise InputError(f"--import {module}: {error}") from error


def register_given_dataset(
    dataset: str, *, image_root: str | None = None, split: str | None = None
) -> str:
    """The registered name of a data set that is given as files; any other name as it is.

    Args:
        dataset: the name, a COCO json, the yaml of a YOLO data set or a folder of Pascal VOC.
        image_root: folder that the json's file names are relative to, by default its own.
        split: of a data set of YOLO or Pascal VOC, by default "val".

    Raises:
        InputError: if there is no such data set or folder, or an option does not go with what is given.
    """
    is_folder = is_folder_format(dataset)
    if split is not None and not is_folder:
        raise InputError(
            f"--split goes with data of YOLO or Pascal VOC, --dataset {dataset} is none"
        )
    if is_folder:
        split = choose_split(dataset, split, "val")
        image_root = find_image_root(dataset, image_root, "--images")
    elif not os.path.isfile(dataset):
        if dataset not in DatasetCatalog:
            raise InputError(
                f"--dataset {dataset}: there is no such file or folder, and no data set of that name is registered"
            )
        if image_root is not None:
            raise InputError(f"--images goes with files, and --dataset {dataset} is none")
        return dataset
    image_root = image_root or os.path.dirname(dataset) or "."
    if not os.path.isdir(image_root):
        raise InputError(f"--images: {describe_absence(image_root, 'folder')}")
    register_coco(CocoSource(dataset, dataset, image_root, split=split))
    return dataset
