"""One data set inspected: annotations always, image files if asked."""

from __future__ import annotations

import dataclasses
import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from smca.data.catalog_dicts import tables_from_dicts
from smca.data.coco_json import read_coco_json
from smca.data.coco_records import CocoFile
from smca.data.coco_source import coco_source
from smca.data.coco_tables import CocoTables

from .findings import Finding, find_annotation_faults, find_record_faults
from .image_check import ImageState, find_image_faults, read_images
from .statistics import Statistics, describe


@dataclasses.dataclass(frozen=True, eq=False)
class CheckReport:
    """
    Attributes:
        name: registered name or path of the json.
        json_file: None for a data set that the user's own code makes.
        tables: the readable records.
        paths: of the image files; empty if nobody said where they are.
        states: of the image files; empty if they were not read.
        findings: faults by kind; empty for a clean data set.
        statistics: of the readable objects.
    """

    name: str
    json_file: str | None
    tables: CocoTables
    paths: list[str]
    states: list[ImageState]
    findings: list[Finding]
    statistics: Statistics


def check_dataset(
    dataset: str,
    *,
    image_root: str | None = None,
    images: bool = True,
    num_queries: int = 300,
    workers: int = 4,
    progress: bool = True,
) -> CheckReport:
    """
    Args:
        dataset: path of a COCO json, or name of a registered data set.
        image_root: folder that the json's file names are relative to; of a registered data set it is known.
        images: whether to read the image files.
        num_queries: of the model.
        workers: processes that read images; 0 reads in this one.
        progress: show bars on stderr.

    Raises:
        ValueError: one sentence, if the data set cannot be checked at all.
    """
    json_file, root, file = _read(dataset, image_root)
    tables = file.tables
    if not tables.image_ids:
        first = f"; {file.problems[0].sentence}" if file.problems else ""
        raise ValueError(f"{dataset} has no image record that can be read{first}")
    paths = (
        [] if root is None else [os.path.join(root, file_name) for file_name in tables.file_names]
    )
    if images and root is None:
        raise ValueError(
            f"where are the images of {dataset}? name their folder with --images FOLDER, or leave them out with "
            "--no-images"
        )
    findings = [
        *find_record_faults(file),
        *find_annotation_faults(tables, num_queries=num_queries),
    ]
    states = read_images(paths, workers=workers, progress=progress) if images else []
    if states:
        findings += find_image_faults(paths, states, tables.sizes)
    return CheckReport(dataset, json_file, tables, paths, states, findings, describe(tables))


def _read(dataset: str, image_root: str | None) -> tuple[str | None, str | None, CocoFile]:
    """The json, the folder of the images, and what the json or the registered function says."""
    if os.path.isfile(dataset):
        return dataset, image_root, read_coco_json(dataset)
    if dataset not in DatasetCatalog.list():
        raise ValueError(
            f"{dataset} is neither a file nor a registered data set; if code of yours registers it, name its module "
            "with --import MODULE"
        )
    source = coco_source(dataset)
    if source is not None:
        if source.make is not None:
            source.make()
        if not os.path.isfile(source.json_file):
            raise ValueError(
                f"data set {dataset}: {_where_to_put(source.json_file, source.image_root)}"
            )
        return source.json_file, image_root or source.image_root, read_coco_json(source.json_file)
    metadata = MetadataCatalog.get(dataset)
    try:
        dicts = list(DatasetCatalog.get(dataset))
    except (OSError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(
            f"data set {dataset}: the function that it was registered with failed ({type(error).__name__}: {error})"
        ) from error
    tables = tables_from_dicts(
        dicts,
        name=dataset,
        class_names=metadata.get("thing_classes"),
        id_map=metadata.get("thing_dataset_id_to_contiguous_id"),
    )
    return None, image_root or "", CocoFile(tables, [], [])


def _where_to_put(json_file: str, image_root: str) -> str:
    text = f"{json_file} does not exist; put it there, and its images into {image_root}"
    if "2017" in os.path.basename(json_file):
        text += " (COCO 2017 is at https://cocodataset.org/#download: images of train and val, annotations)"
    return f"{text}, or set DETECTRON2_DATASETS to the folder that holds the data sets"
