"""A registered data set, checked before any long work starts."""

import logging
from collections.abc import Iterable, Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.build import print_instances_class_histogram

from smca.errors import InputError

from .coco_source import CocoSource, find_source
from .coco_tables import describe_difference
from .code_source import CodeSource
from .usable_dataset import UsableDataset, select_usable

logger = logging.getLogger(__name__)
_loaded: dict[str, tuple[tuple, UsableDataset]] = {}


def load_detection_dataset(names: str | Sequence[str], *, filter_empty: bool = False) -> list[dict]:
    """Dataset dicts of one or several registered data sets, ready for :class:`DetectionMapper`.

    Handled, and counted in one line of log per data set: boxes without area, outside the image, partly outside or
    not finite, crowds (they stay in the dicts, and the mapper leaves them out), annotations of images that the file
    does not have, images of another size than stated. Refused, naming the record: see ``coco_records`` and
    ``code_source``. Image headers are read in data sets of up to ``MAX_OPENED_IMAGES`` images; larger ones are
    trusted, check them once with ``smca-check-dataset``.

    Args:
        names: names in Detectron2's ``DatasetCatalog``. What is registered may be a COCO json
            (``register_coco_instances``) or any function that returns Detectron2's dataset dicts.
        filter_empty: leave out images without objects; DETR keeps them.

    Raises:
        InputError: one sentence, if a name is not registered, a file is missing or cannot be read, a record cannot
            be used, or the data sets have different classes.
    """
    names = as_names(names)
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


def as_names(names: str | Iterable[str]) -> list[str]:
    """A config's ``names`` of data sets, which may be one string, as a list.

    Raises:
        InputError: if there is none.
    """
    names = [names] if isinstance(names, str) else list(names or ())
    if not names:
        raise InputError("no data set is named in the config's dataloader")
    return names


def loaded_dataset(name: str) -> UsableDataset:
    """What :func:`load_detection_dataset` made of a data set last, or would make of it without looking at images.

    Raises:
        InputError: if it is not registered or its annotations cannot be read.
    """
    source = find_source(name)
    known, dataset = _loaded.get(name, (None, None))
    if dataset is not None and known == _key(source):
        return dataset
    tables = source.read_truth()
    return select_usable(name, tables, tables.file_names)


def class_names_of(name: str) -> tuple[str, ...]:
    """Classes of a registered data set, from its metadata or, where they are not there yet, from its annotations.

    Raises:
        InputError: if it is not registered or its annotations cannot be read.
    """
    source = find_source(name)
    names = MetadataCatalog.get(name).get("thing_classes")
    return tuple(names or source.read_truth().class_names)


def class_ids_of(name: str) -> tuple:
    """Category ids of the classes of a registered data set, in their order; empty unless each class has one.

    Raises:
        InputError: if it is not registered or its annotations cannot be read.
    """
    source = find_source(name)
    key = "thing_dataset_id_to_contiguous_id"
    known = MetadataCatalog.get(name).get(key)
    if known is None and isinstance(source, CocoSource):
        known = source.read_truth().id_map()
    ids = {index: class_id for class_id, index in (known or {}).items()}
    names = class_names_of(name)
    return tuple(ids[k] for k in range(len(names))) if sorted(ids) == [*range(len(names))] else ()


def _load_one(name: str) -> list[dict]:
    source = find_source(name)
    dataset = source.load()
    if isinstance(source, CocoSource) or source.json_file is None:
        # Otherwise the ground truth is another one.
        _loaded[name] = (_key(source), dataset)
    logger.info(dataset.summary())
    for text in dataset.warnings():
        logger.warning(text)
    return dataset.records()


def _key(source: CocoSource | CodeSource) -> tuple:
    """Of what a data set is made from, to see whether it has changed."""
    return (source, DatasetCatalog[source.name], source.state())


def _check_same_classes(names: Sequence[str]) -> None:
    first = list(MetadataCatalog.get(names[0]).thing_classes)
    for name in names[1:]:
        other = list(MetadataCatalog.get(name).thing_classes)
        if other != first:
            raise InputError(
                f"{names[0]} and {name} cannot be joined, their classes differ: {describe_difference(first, other)}"
            )
