"""One data set inspected: annotations always, image files if asked."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter

from detectron2.data import DatasetCatalog

from smca.data.folders.folder_content import FolderContent
from smca.data.image_files import MISSING, describe_absence, file_problem
from smca.data.sources.annotations import (
    choose_split,
    find_image_root,
    is_folder_format,
    read_folder,
)
from smca.data.sources.coco_json import load_coco_json
from smca.data.sources.coco_records import CocoFile, mend_content, parse_coco
from smca.data.sources.coco_source import CocoSource, find_source
from smca.data.sources.coco_tables import CocoTables
from smca.errors import InputError

from .findings import (
    Finding,
    find_annotation_faults,
    find_lack_of_objects,
    find_record_faults,
    joined,
)
from .hints import find_hints
from .image_check import ImageState, find_image_faults, read_images
from .statistics import Statistics, describe

ASSUMED_QUERIES = 300
"""What SMCA's and DETR's models for COCO have."""


@dataclasses.dataclass(frozen=True, eq=False)
class CheckReport:
    """What was found.

    Attributes:
        name: registered name or path of the json; of several splits with the one that was checked.
        json_file: path of the annotations; None for a data set that the user's own code makes.
        folder: of a data set of many files what a json of it would hold.
        tables: the readable records, and those that can be converted.
        paths: of the image files; empty if nobody said where they are.
        states: of the image files; empty if they were not read.
        findings: faults by kind; empty for a clean data set.
        hints: what may be meant so, but is worth a look.
        num_queries: that numbers of objects were compared with.
        statistics: of the readable objects.
    """

    name: str
    json_file: str | None
    folder: FolderContent | None
    tables: CocoTables
    paths: list[str]
    states: list[ImageState]
    findings: list[Finding]
    hints: list[Finding]
    num_queries: int
    statistics: Statistics


def check_dataset(
    dataset: str,
    *,
    image_root: str | None = None,
    split: str | None = None,
    images: bool = True,
    num_queries: int = ASSUMED_QUERIES,
    workers: int = 4,
    progress: bool = True,
) -> CheckReport:
    """Look at a data set before training.

    Args:
        dataset: path of a COCO json, of the yaml of a YOLO data set or of a folder of Pascal VOC, or name of a
            registered data set.
        image_root: folder that the json's file names are relative to; of a registered data set it is known, of
            another one it is the json's own by default.
        split: of a data set of YOLO or Pascal VOC; by default "train", if there are several.
        images: whether to read the image files.
        num_queries: of the model.
        workers: processes that read images; 0 reads in this one.
        progress: show bars on stderr.

    Raises:
        InputError: one sentence, if the data set cannot be checked at all.
    """
    name = dataset
    if is_folder_format(dataset):
        split = choose_split(dataset, split, "train")
        name = dataset if split is None else f"{dataset} ({split})"
    json_file, root, folder, file = _read(dataset, image_root, split)
    tables = file.tables
    if not tables.image_ids:
        first = f"; {file.problems[0].sentence}" if file.problems else ""
        raise InputError(f"{dataset} has no image record that can be read{first}")
    paths = [os.path.join(root, file_name) for file_name in tables.file_names]
    is_beside = image_root is None and json_file == dataset and folder is None
    if images and is_beside and all(file_problem(path) == MISSING for path in paths):
        raise InputError(
            f"where are the images of {dataset}? None is in its own folder: name theirs with --images FOLDER, or leave "
            "them out with --no-images"
        )
    findings = [
        *find_record_faults(file),
        *find_annotation_faults(tables, num_queries=num_queries),
    ]
    if not file.problems:
        findings += find_lack_of_objects(tables)
    states = read_images(paths, workers=workers, progress=progress) if images else []
    if states:
        findings = joined([*findings, *find_image_faults(paths, states, tables.sizes)])
    return CheckReport(
        name=name,
        json_file=json_file,
        folder=folder,
        tables=tables,
        paths=paths,
        states=states,
        findings=findings,
        hints=find_hints(tables, root, states),
        num_queries=num_queries,
        statistics=describe(tables),
    )


def _read(
    dataset: str, image_root: str | None, split: str | None
) -> tuple[str | None, str, FolderContent | None, CocoFile]:
    """The json, the folder of the images, and what the files or the registered function say."""
    if image_root is not None and not os.path.isdir(image_root):
        raise InputError(f"--images: {describe_absence(image_root, 'folder')}")
    if is_folder_format(dataset):
        return dataset, *_read_folder(
            dataset, split, find_image_root(dataset, image_root, "--images")
        )
    if split is not None:
        raise InputError(f"--split is for data sets of YOLO and Pascal VOC, and {dataset} is none")
    if os.path.isfile(dataset):
        # Roboflow and others put the json among its images.
        return dataset, image_root or os.path.dirname(dataset), None, _read_json(dataset)
    if dataset not in DatasetCatalog.list():
        raise InputError(
            f"{dataset} is neither a file nor a registered data set; if code of yours registers it, name its module "
            "with --import MODULE"
        )
    source = find_source(dataset)
    if not isinstance(source, CocoSource):
        return None, image_root or "", None, source.read()
    if is_folder_format(source.json_file):
        return source.json_file, *_read_folder(source.json_file, source.split, source.image_root)
    if source.make is not None:
        source.make()
    if not os.path.isfile(source.json_file):
        raise InputError(
            f"data set {dataset}: {_where_to_put(source.json_file, source.image_root)}"
        )
    root = image_root or source.image_root
    return source.json_file, root, None, _read_json(source.json_file)


def _read_folder(
    path: str, split: str | None, image_root: str
) -> tuple[str, FolderContent, CocoFile]:
    folder, file = read_folder(path, split, image_root)
    return folder.image_root, folder, file


def _read_json(path: str) -> CocoFile:
    """All problems, and the records as they are when what is meant is written."""
    content = load_coco_json(path, label=path)
    file = parse_coco(content)
    return file._replace(tables=mend_content(content, file, Counter()).tables)


def _where_to_put(json_file: str, image_root: str) -> str:
    text = f"{json_file} does not exist; put it there, and its images into {image_root}"
    if "2017" in os.path.basename(json_file):
        text += " (COCO 2017 is at https://cocodataset.org/#download: images of train and val, annotations)"
    return f"{text}, or set DETECTRON2_DATASETS to the folder that holds the data sets"
