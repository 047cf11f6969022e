"""Data sets that are files on a disk, a COCO json and a folder of images above all, whoever registered them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from smca.data.image_files import find_sizes
from smca.errors import InputError

from .annotations import (
    annotations_state,
    is_folder_format,
    read_class_names,
    read_valid_annotations,
)
from .coco_json import file_key
from .coco_tables import CocoTables
from .code_source import CodeSource
from .usable_dataset import UsableDataset, select_usable


@dataclasses.dataclass(frozen=True)
class CocoSource:
    """The loading function of a data set in Detectron2's ``DatasetCatalog``.

    Attributes:
        name: registered name.
        json_file, image_root: the annotations, see :mod:`.annotations`, and the folder that file names in them are
            relative to.
        make: makes the files if they are not there.
        classes_from: other annotations whose classes, matched by name, are this data set's, too.
        split: of a data set of many files.
    """

    name: str
    json_file: str
    image_root: str
    make: Callable[[], object] | None = None
    classes_from: str | None = None
    split: str | None = None

    def __call__(self) -> list[dict]:
        """Dataset dicts, see :meth:`UsableDataset.records`."""
        return self.load().records()

    def read_truth(self) -> CocoTables:
        """The columns; also puts the class names into the data set's metadata.

        Raises:
            InputError: if a file is missing or no COCO json, or the metadata names other classes.
        """
        if self.make is not None:
            self.make()
        label = f"{self.json_file} (data set {self.name!r})"
        _check_existence(self.json_file, f"data set {self.name}: ")
        tables = read_valid_annotations(
            self.json_file, split=self.split, image_root=self.image_root, label=label
        )
        if self.classes_from is not None:
            _check_existence(self.classes_from, "")
            tables = tables.with_classes(
                read_class_names(self.classes_from),
                label=label,
                other=self.classes_from,
            )
        self._set_metadata(tables)
        return tables

    def load(self) -> UsableDataset:
        """What can be used of it.

        Raises:
            InputError: as :meth:`read_truth`, or if an image file is missing or no image.
        """
        tables = self.read_truth()
        if not tables.has_annotations:
            raise InputError(
                f"{self.json_file} (data set {self.name!r}) is no COCO json for training: it has no list 'annotations'"
            )
        paths = [os.path.join(self.image_root, name) for name in tables.file_names]
        return select_usable(self.name, tables, paths, find_sizes(paths, label=self.name))

    def state(self) -> tuple | None:
        """Changes when the annotations do."""
        return annotations_state(self.json_file, self.split, self.image_root)

    def _set_metadata(self, tables: CocoTables) -> None:
        metadata = MetadataCatalog.get(self.name)
        known = metadata.get("thing_classes")
        if known is not None and list(known) != tables.class_names:
            raise InputError(
                f"{self.json_file} has the categories {', '.join(tables.class_names[:8])}, sorted by id, but data set "
                f"{self.name!r} was registered with the thing_classes {', '.join(map(str, known[:8]))}; register it "
                "without thing_classes"
            )
        if metadata.get("thing_dataset_id_to_contiguous_id", tables.id_map()) != tables.id_map():
            raise InputError(
                f"data set {self.name!r} was registered with a thing_dataset_id_to_contiguous_id that is not that of "
                f"{self.json_file}; register it without"
            )
        if known is None:
            metadata.thing_classes = tables.class_names
        metadata.thing_dataset_id_to_contiguous_id = tables.id_map()


def find_source(name: str) -> CocoSource | CodeSource:
    """Where a registered data set comes from.

    Of Detectron2's own function for a json nothing but the json and the folder matters, so ours reads them, which
    names faults and mends some. That a data set's metadata name a json does not make it one: code that filters
    records or adds fields sets the same, for the evaluation. So the function itself must be the one that
    ``register_coco_instances`` registers, which its code tells; any other one is called, and its word counts.

    Raises:
        InputError: if Detectron2 knows no data set of that name.
    """
    if name not in DatasetCatalog.list():
        raise InputError(
            f"data set {name!r} is not registered: register it with "
            "detectron2.data.datasets.register_coco_instances, or correct the name in the config's dataloader"
        )
    function = DatasetCatalog[name]
    if isinstance(function, CocoSource):
        return function
    code = getattr(function, "__code__", None)
    if code is not None and code in register_coco_instances.__code__.co_consts:
        metadata = MetadataCatalog.get(name)
        return CocoSource(name, os.fspath(metadata.json_file), os.fspath(metadata.image_root))
    return CodeSource(name)


def register_coco(source: CocoSource) -> None:
    """Register the data set, in place of an earlier one of that name.

    Raises:
        InputError: if the name is that of a data set which was registered otherwise.
    """
    if source.name in DatasetCatalog:
        if not isinstance(DatasetCatalog[source.name], CocoSource):
            raise InputError(f"a data set {source.name!r} is registered already; use another name")
        DatasetCatalog.remove(source.name)
        # Detectron2's metadata cannot be changed, and a file of other classes may be at the same path.
        MetadataCatalog.remove(source.name)
    DatasetCatalog.register(source.name, source)
    MetadataCatalog.get(source.name).set(
        json_file=source.json_file, image_root=source.image_root, evaluator_type="coco"
    )


def _check_existence(path: str, owner: str) -> None:
    if file_key(path) is None and not is_folder_format(path):
        raise InputError(
            f"{owner}{path} does not exist; put it there, or set DETECTRON2_DATASETS to the folder that holds the "
            "data sets"
        )
