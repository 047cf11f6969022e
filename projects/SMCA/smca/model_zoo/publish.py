"""From a training's checkpoint to a file to share, and its entry in an index."""

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from smca.checkpoint import ModelInfo, read_model_file, weights_of_described
from smca.checkpoint.file_formats import ENCODERS
from smca.errors import InputError
from smca.experiments import list_configs
from smca.whole_file import replacing

from .index import FORMAT, ZooEntry, read_index

_RUN_FILES = ("model_final.pth", "model_best.pth")


@dataclasses.dataclass(frozen=True)
class Shareable:
    """What a published file holds.

    Attributes:
        state_dict: weights by name.
        info: their description, with metrics.
        moving_averages: whether the weights are those a training averaged (EMA).
        source: file that they are from.
    """

    state_dict: dict[str, Tensor]
    info: ModelInfo
    moving_averages: bool
    source: Path


def find_checkpoint(source: str) -> str:
    """The file of a run's directory, the final one, else the best; anything else as it is.

    Raises:
        InputError: if there is none.
    """
    if not os.path.isdir(source):
        return source
    for name in _RUN_FILES:
        path = os.path.join(source, name)
        if os.path.isfile(path):
            return path
    raise InputError(
        f"{source} has no {' or '.join(_RUN_FILES)}; name the checkpoint in it that is to be published"
    )


def prepare(
    source: str,
    *,
    described_as: ModelInfo | None = None,
    raw: bool = False,
    metrics: Mapping[str, float] | None = None,
) -> Shareable:
    """Read a checkpoint and take what is to be shared.

    Args:
        source: a training's checkpoint, or any other that fits ``described_as``; a file, a URL, or a name such as
            "smca://...".
        described_as: takes the place of the file's own description, whose class names and ids are kept.
        raw: the weights themselves where there are moving averages, too.
        metrics: by default those in the file, else those of its iteration in "metrics.json" beside it.

    Raises:
        InputError: if the file cannot be read or does not say what its model is, or its tensors are not those of the
            model.
    """
    file = read_model_file(source)
    info = described_as or file.info
    if info is None:
        raise InputError(
            f"{source} does not say which model it is of; give its config (--config-file)"
        )
    averages = file.ema is not None and not raw
    if raw:
        file = dataclasses.replace(file, ema=None)
    path = Path(file.path)
    if metrics is None:
        found = file.info.metrics if file.info and file.info.metrics else logged_metrics(path)
        metrics = metrics_of(found, moving_averages=averages)
    names = info.class_names or file.class_names
    known = () if file.info is None or file.info.class_names != names else file.info.class_ids
    info = dataclasses.replace(
        info,
        class_names=names,
        class_ids=info.class_ids or known,
        config_name=public_name(info.config_name),
        metrics=dict(sorted(metrics.items())),
    )
    try:
        state = weights_of_described(info, file)
    except InputError as error:
        raise InputError(f"{source} is not published: {error}") from error
    return Shareable(state, info, averages, path)


def write_shareable(shareable: Shareable, folder: Path, *, stem: str, kind: str) -> ZooEntry:
    """Write ``<stem>_<first 8 digits of sha256>.<kind>``, whole or not at all.

    Args:
        kind: "pth", "safetensors" or "pkl".

    Returns:
        Its entry, under the name ``stem``, with the file's path as ``url``.

    Raises:
        OSError: if it cannot be written.
    """
    data = ENCODERS[kind](shareable.state_dict, shareable.info)
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{stem}_{digest[:8]}.{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_bytes(data)
    name = shareable.info.config_name
    return ZooEntry(
        name=stem,
        url=str(path),
        sha256=digest,
        size=len(data),
        config=name if name in list_configs() else "",
        metrics=dict(shareable.info.metrics),
    )


def append_entry(index: Path, entry: ZooEntry, *, replace: bool = False) -> None:
    """Add an entry to an index file, which is made if there is none.

    Raises:
        InputError: if the file is no index, the entry is not right, or its name is there and ``replace`` not given.
        OSError: if the file cannot be written.
    """
    entries = read_index(index) if index.exists() else {}
    if entry.name in entries and entries[entry.name].sha256 != entry.sha256 and not replace:
        raise InputError(
            f"{index} has {entry.name!r} already, of another file; give another --name, or --force to replace it"
        )
    content = {"format": FORMAT, "weights": {}}
    if index.exists():
        content = json.loads(index.read_text(encoding="utf-8"))
    content["weights"][entry.name] = entry.to_json()
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    with replacing(index) as draft:
        draft.write_text(text, encoding="utf-8")
        read_index(draft)


def public_name(config: str) -> str:
    """A config's name in the zoo; of a file elsewhere its name only, since folders are no one's business."""
    plain = Path(config).as_posix().removesuffix(".py")
    names = list_configs()
    if plain in names:
        return plain
    inside = plain.rpartition("configs/")[2]
    return inside if inside in names else plain.rpartition("/")[2].strip(".")


def logged_metrics(path: Path) -> dict[str, float]:
    """What "metrics.json" beside a checkpoint says of it: the last ones for the final one, else its iteration's."""
    log = path.with_name("metrics.json")
    number = re.fullmatch(r"model_(\d+)", path.stem)
    if not log.is_file() or (number is None and path.name != _RUN_FILES[0]):
        return {}
    found: dict[str, float] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            # The last line of a run that was killed.
            continue
        metrics = {k: v for k, v in record.items() if re.fullmatch(r"\w+/\S.*", k)}
        if metrics and (number is None or record.get("iteration") == int(number[1])):
            found = metrics
    return found


def metrics_of(metrics: Mapping[str, float], *, moving_averages: bool) -> dict[str, float]:
    """Those of the published weights, finite ones only: a training writes "bbox/AP" for its weights and, where it
    averages them, "bbox_ema/AP" for the averages."""
    mark = "_ema/"
    if moving_averages:
        chosen = {k.replace(mark, "/"): v for k, v in metrics.items() if mark in k}
    else:
        chosen = {k: v for k, v in metrics.items() if mark not in k}
    return {
        k: round(float(v), 3)
        for k, v in chosen.items()
        # Python compares integers that no float could hold.
        if isinstance(v, int | float) and abs(v) < math.inf
    }
