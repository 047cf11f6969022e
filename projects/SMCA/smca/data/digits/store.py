"""Writes a digits data set to disk once, as COCO json and JPEG files, and checks what is there.

<root>/<name>/annotations/<name>_train.json, <name>_val.json
<root>/<name>/train/000001.jpg ..., <root>/<name>/val/000001.jpg ...
<root>/<name>.lock      held while the data set is written; released by the kernel with the process
<root>/.<name>.partial  a data set in the making, renamed to <root>/<name> when it is complete
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from iopath.common.file_io import file_lock
from PIL import Image
from portalocker.exceptions import BaseLockException
from tqdm import tqdm

from smca.errors import InputError

from .compose import PastedDigit, compose_image
from .sources import LICENSES, DigitSources, load_sources
from .spec import CLASSES, SPLITS, DigitsSpec

# Part of the stored settings: raise it whenever the composing code changes the images.
GENERATOR_VERSION = 1


class DigitsError(InputError):
    """A digits data set cannot be written, or what is on disk is not what was asked for."""


def annotation_file(root: str | os.PathLike, name: str, split: str) -> Path:
    """Path of the COCO json of `split`."""
    return Path(root) / name / "annotations" / f"{name}_{split}.json"


def image_root(root: str | os.PathLike, name: str, split: str) -> Path:
    """Directory that the file names in the json of `split` are relative to."""
    return Path(root) / name / split


def make_digits(
    root: str | os.PathLike,
    spec: DigitsSpec | None = None,
    name: str = "digits",
    *,
    progress: bool = True,
) -> Path:
    """Makes the data set `<root>/<name>` unless it is there already.

    Processes that start together wait for the one that writes; what a killed one left is removed.

    Args:
        root: directory of data sets; created if missing.
        spec: what to make; None for the defaults.
        name: letters, digits, "_", "-"; names the directory and the json files.
        progress: shows a progress bar per split on stderr.

    Returns:
        The directory of the data set.

    Raises:
        DigitsError: the directory holds something else or was made with other settings (it is left
            as it is), or it cannot be written.
        InputError: `name` is no plain name, or scikit-learn is missing and the data set is yet to be made.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise InputError(f"A data set name has letters, digits, '_' and '-' only, not {name!r}.")
    spec = spec or DigitsSpec()
    target = Path(root) / name
    try:
        if _is_made(target, spec):
            return target
        sources = load_sources(spec)
        target.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(target)):
            if not _is_made(target, spec):
                _write_all(target, spec, sources, progress)
    except BaseLockException as error:
        raise DigitsError(
            f"Cannot lock {target}.lock: another process holds it, or the file system has no locks "
            f"({error})."
        ) from error
    except OSError as error:
        raise DigitsError(
            f"Cannot make the digits data set {target}: {error}; see to that, or use "
            "another root (environment variable DETECTRON2_DATASETS)."
        ) from error
    return target


def _is_made(target: Path, spec: DigitsSpec) -> bool:
    """False if there is nothing at `target`; raises if there is anything but what `spec` makes."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    remedy = f"delete {target}, or use another root (environment variable DETECTRON2_DATASETS)"
    wanted = {"generator_version": GENERATOR_VERSION, **spec.as_json()}
    files = [annotation_file(target.parent, target.name, split) for split in SPLITS]
    for file in files:
        if not file.is_file():
            raise DigitsError(
                f"{target} is no complete digits data set ({file} missing): {remedy}."
            )
    try:
        # The val file is the small one; both come from one rename, so one tells about both.
        found = dict(json.loads(files[-1].read_text())["info"]["smca_digits"])
    except (ValueError, KeyError, TypeError) as error:
        raise DigitsError(f"{files[-1]} was not written by make_digits: {remedy}.") from error
    different = [key for key in wanted if found.get(key) != wanted[key]]
    if different:
        changes = ", ".join(f"{key} {found.get(key)} instead of {wanted[key]}" for key in different)
        raise DigitsError(f"{target} was made with other settings ({changes}): {remedy}.")
    return True


def _write_all(target: Path, spec: DigitsSpec, sources: DigitSources, progress: bool) -> None:
    """Writes beside `target`, then renames; the caller holds the lock."""
    partial = target.with_name(f".{target.name}.partial")
    if partial.exists():  # whoever wrote it held the lock, so it is dead
        shutil.rmtree(partial)
    try:
        for split in SPLITS:
            (partial / split).mkdir(parents=True)
            _write_split(partial, target.name, split, spec, sources, progress)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_split(
    folder: Path,
    name: str,
    split: str,
    spec: DigitsSpec,
    sources: DigitSources,
    progress: bool,
) -> None:
    images, annotations = [], []
    indices = range(spec.num_images(split))
    bar = tqdm(indices, f"making {name}_{split}", unit="img", mininterval=0.5, disable=not progress)
    for index in bar:
        pixels, digits = compose_image(spec, split, index, sources)
        image = {
            "id": index + 1,
            "file_name": f"{index + 1:06d}.jpg",
            "height": pixels.shape[0],
            "width": pixels.shape[1],
            "license": 1,
        }
        Image.fromarray(pixels).save(folder / split / image["file_name"], quality=spec.jpeg_quality)
        images.append(image)
        annotations.extend(_annotations(index + 1, len(annotations) + 1, digits))
    content = {
        "info": {
            "description": "Handwritten digits on photographs, made by smca's make_digits",
            "smca_digits": {"generator_version": GENERATOR_VERSION, **spec.as_json()},
        },
        "licenses": LICENSES,
        "categories": [
            {"id": label + 1, "name": class_name, "supercategory": "digit"}
            for label, class_name in enumerate(CLASSES)
        ],
        "images": images,
        "annotations": annotations,
    }
    file = folder / "annotations" / f"{name}_{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def _annotations(image_id: int, first_id: int, digits: Iterable[PastedDigit]) -> list[dict]:
    return [
        {
            "id": first_id + offset,
            "image_id": image_id,
            "category_id": digit.label + 1,
            "bbox": list(digit.box),
            "area": digit.box[2] * digit.box[3],
            "iscrowd": 0,
        }
        for offset, digit in enumerate(digits)
    ]
