"""Registers digits data sets with Detectron2; the files are made the first time they are used."""

from __future__ import annotations

import dataclasses
import functools
import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from smca.data.sources.coco_source import CocoSource
from smca.errors import InputError

from .spec import CLASSES, SPLITS, DigitsSpec
from .store import annotation_file, image_root, make_digits


@dataclasses.dataclass(frozen=True)
class _Registration:
    root: str
    name: str
    spec: DigitsSpec


_registered: dict[str, _Registration] = {}


def register_digits(
    root: str | os.PathLike | None = None,
    name: str = "digits",
    spec: DigitsSpec | None = None,
) -> None:
    """Registers `<name>_train` and `<name>_val`, made under `<root>/<name>` on first use.

    Registering again with the same arguments does nothing; with others it replaces the earlier
    registration. Writes no file and needs no scikit-learn.

    Args:
        root: directory of data sets. None: the environment variable DETECTRON2_DATASETS as it is
            now, or else "datasets", which is how Detectron2 finds its own data sets.
        name: name of the data set.
        spec: what to make; None for the defaults.

    Raises:
        InputError: someone else registered a data set of one of the two names.
    """
    if root is None:
        root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    registration = _Registration(root=os.fspath(root), name=name, spec=spec or DigitsSpec())
    names = {split: f"{name}_{split}" for split in SPLITS}
    for full_name in names.values():
        if full_name in DatasetCatalog and full_name not in _registered:
            raise InputError(
                f"A data set {full_name!r} is registered already and smca's digits need the name: "
                "give yours another one."
            )
    for split, full_name in names.items():
        if _registered.get(full_name) == registration:
            continue
        if full_name in _registered:
            DatasetCatalog.remove(full_name)
            MetadataCatalog.remove(full_name)
        source = CocoSource(
            full_name,
            str(annotation_file(registration.root, name, split)),
            str(image_root(registration.root, name, split)),
            make=functools.partial(_make, registration),
        )
        DatasetCatalog.register(full_name, source)
        MetadataCatalog.get(full_name).set(
            thing_classes=list(CLASSES),
            thing_dataset_id_to_contiguous_id={label + 1: label for label in range(len(CLASSES))},
            json_file=source.json_file,
            image_root=source.image_root,
            evaluator_type="coco",
        )
        _registered[full_name] = registration


def ensure_digits(*names: str, progress: bool = True) -> None:
    """Makes the files of the digits data sets among `names`, and passes over all other names.

    Loading a data set from the catalog does this by itself. Detectron2's COCOEvaluator opens
    `MetadataCatalog.get(name).json_file` without loading the data set: call this before it.

    Args:
        names: registered names such as "digits_val".
        progress: shows a progress bar on stderr.

    Raises:
        InputError: see `make_digits`.
    """
    for registration in {_registered[name] for name in names if name in _registered}:
        make_digits(registration.root, registration.spec, registration.name, progress=progress)


def _make(registration: _Registration) -> None:
    make_digits(registration.root, registration.spec, registration.name)
