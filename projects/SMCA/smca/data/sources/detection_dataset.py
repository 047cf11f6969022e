"""A registered data set, checked before any long work starts."""

import logging
from collections.abc import Sequence

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import print_instances_class_histogram

from smca.data.image_files import check_files_exist, read_image_sizes
from smca.errors import InputError

from .catalog_dicts import tables_from_dicts, usable_dicts
from .coco_json import file_key, read_valid_coco_json
from .coco_source import MAX_OPENED_IMAGES, coco_source
from .prepared_dataset import PreparedDataset, prepare

logger = logging.getLogger(__name__)
_loaded: dict[str, tuple[tuple, PreparedDataset]] = {}
_told: set[tuple[str, tuple[int, ...]]] = set()


def load_detection_dataset(names: str | Sequence[str], *, filter_empty: bool = False) -> list[dict]:
    """Dataset dicts of one or several registered data sets, ready for :class:`DetectionMapper`.

    Handled, and counted in one line of log per data set: boxes without area, outside the image, partly outside or
    not finite, crowds (they stay in the dicts, and the mapper leaves them out), annotations of images that the file
    does not have, images of another size than stated. Refused, naming the record: see ``coco_records`` and
    ``catalog_dicts``. Image headers are read in data sets of up to ``MAX_OPENED_IMAGES`` images; larger ones are
    trusted, check them once with ``smca-check-dataset``.

    Args:
        names: names in Detectron2's ``DatasetCatalog``. What is registered may be a COCO json
            (``register_coco_instances``) or any function that returns Detectron2's dataset dicts.
        filter_empty: leave out images without objects; DETR keeps them.

    Raises:
        InputError: one sentence, if a name is not registered, a file is missing or cannot be read, a record cannot
            be used, or the data sets have different classes.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise InputError("no data set is named in the config's dataloader")
    records = [record for name in names for record in _load_one(name)]
    _check_same_classes(names)
    if filter_empty:
        records = [r for r in records if any(not a.get("iscrowd", 0) for a in r["annotations"])]
        if not records:
            raise InputError(
                f"no image of {', '.join(names)} has an object, and filter_empty is on"
            )
    print_instances_class_histogram(records, MetadataCatalog.get(names[0]).thing_classes)
    return records


def loaded_dataset(name: str) -> PreparedDataset:
    """What :func:`load_detection_dataset` made of a data set last, or would make of it without looking at images.

    Raises:
        InputError: if it is not registered or its annotations cannot be read.
    """
    known, dataset = _loaded.get(name, (None, None))
    if dataset is not None and known == _key(name):
        return dataset
    check_registered(name)
    source, metadata = coco_source(name), MetadataCatalog.get(name)
    json_file = metadata.get("json_file")
    if source is not None:
        tables = source.read()
    elif json_file is None:
        tables = _tables_from_catalog(name, _call(name))
    else:
        if file_key(json_file) is None or metadata.get("thing_dataset_id_to_contiguous_id") is None:
            # The data set's function makes the file, or tells the metadata.
            _call(name)
        tables = read_valid_coco_json(json_file, label=f"{json_file} (data set {name!r})")
    return prepare(name, tables, tables.file_names)


def class_names_of(name: str) -> tuple[str, ...]:
    """Classes of a registered data set, from its metadata or, where they are not there yet, from its annotations.

    Raises:
        InputError: if it is not registered or its annotations cannot be read.
    """
    check_registered(name)
    names = MetadataCatalog.get(name).get("thing_classes")
    return tuple(names) if names else tuple(loaded_dataset(name).tables.class_names)


def check_registered(name: str) -> None:
    """
    Raises:
        InputError: if Detectron2 knows no data set of that name.
    """
    if name not in DatasetCatalog.list():
        raise InputError(
            f"data set {name!r} is not registered: register it with "
            "detectron2.data.datasets.register_coco_instances, or correct the name in the config's dataloader"
        )


def _load_one(name: str) -> list[dict]:
    check_registered(name)
    source = coco_source(name)
    if source is not None:
        dataset = source.prepare()
        records = dataset.records()
    else:
        dataset, records = _load_from_code(name)
    if source is not None or MetadataCatalog.get(name).get("json_file") is None:
        # Otherwise the ground truth is what the metadata says, as it is for Detectron2.
        _loaded[name] = (_key(name), dataset)
    tell_once(logging.INFO, dataset.summary())
    for text in dataset.warnings():
        tell_once(logging.WARNING, text)
    return records


def tell_once(level: int, text: str) -> None:
    """Log a line, but not again: data sets are loaded for the check before a training and for every evaluation."""
    run = tuple(id(handler) for handler in logging.getLogger("smca").handlers)
    if logger.isEnabledFor(level) and (text, run) not in _told:
        _told.add((text, run))
        logger.log(level, text)


def _load_from_code(name: str) -> tuple[PreparedDataset, list[dict]]:
    json_file = MetadataCatalog.get(name).get("json_file")
    dicts = _call(name)
    if json_file is not None and file_key(json_file) is not None:
        # The evaluation will read it.
        read_valid_coco_json(json_file, label=f"{json_file} (data set {name!r})")
    tables = _tables_from_catalog(name, dicts)
    paths = tables.file_names
    actual = None
    if len(paths) > MAX_OPENED_IMAGES:
        check_files_exist(paths, label=name)
    else:
        actual = read_image_sizes(paths, label=name)
        wrong = (actual != tables.sizes).any(axis=1) & np.isfinite(tables.sizes).all(axis=1)
        if wrong.any():
            first = int(np.flatnonzero(wrong)[0])
            width, height = actual[first].astype(int)
            said_w, said_h = tables.sizes[first].astype(int)
            raise InputError(
                f"{int(wrong.sum())} of {len(paths)} images of {name} have another size than it says, the first is "
                f"{paths[first]}: {width}x{height} instead of {said_w}x{said_h} (width x height)"
            )
    dataset = prepare(name, tables, paths, actual)
    metadata = MetadataCatalog.get(name)
    if metadata.get("thing_classes") is None:
        metadata.thing_classes = tables.class_names
    return dataset, usable_dicts(dicts, tables, dataset.keep_object, dataset.boxes)


def _tables_from_catalog(name: str, dicts: Sequence[dict]):
    metadata = MetadataCatalog.get(name)
    return tables_from_dicts(
        dicts,
        name=name,
        class_names=metadata.get("thing_classes"),
        id_map=metadata.get("thing_dataset_id_to_contiguous_id"),
    )


def _call(name: str) -> list[dict]:
    try:
        return list(DatasetCatalog.get(name))
    except FileNotFoundError as error:
        raise InputError(
            f"data set {name}: {error.filename or error} does not exist; put it there, or set "
            "DETECTRON2_DATASETS to the folder that holds the data sets"
        ) from error
    except (KeyError, TypeError, AssertionError) as error:
        raise InputError(
            f"data set {name}: the function that it was registered with failed ({type(error).__name__}: {error})"
        ) from error


def _key(name: str) -> tuple:
    check_registered(name)
    source = coco_source(name)
    json_file = source.json_file if source else MetadataCatalog.get(name).get("json_file")
    return (source or DatasetCatalog[name], json_file and file_key(json_file))


def _check_same_classes(names: Sequence[str]) -> None:
    first = list(MetadataCatalog.get(names[0]).thing_classes)
    for name in names[1:]:
        other = list(MetadataCatalog.get(name).thing_classes)
        if other != first:
            raise InputError(
                f"{names[0]} and {name} cannot be joined, their classes differ: {describe_difference(first, other)}"
            )


def describe_difference(first: Sequence[str], second: Sequence[str]) -> str:
    """Says in a few words how two lists of class names differ; empty if they do not."""
    if list(first) == list(second):
        return ""
    only_first = [name for name in first if name not in set(second)]
    only_second = [name for name in second if name not in set(first)]
    if not only_first and not only_second:
        return (
            f"the same names in another order, {', '.join(first[:5])} and {', '.join(second[:5])}"
        )
    parts = [
        f"only the {place} has {', '.join(map(repr, some[:5]))}{' ...' if len(some) > 5 else ''}"
        for place, some in (("first", only_first), ("second", only_second))
        if some
    ]
    return " and ".join(parts)
