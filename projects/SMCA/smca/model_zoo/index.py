"""The index of trained weights: which there are, where, and by which hash they are known."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from smca.errors import InputError

ENVIRONMENT = "SMCA_ZOO_INDEX"
"""Further index files, separated as PATH is."""

FORMAT = 1
SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")

_SHIPPED = Path(__file__).with_name("index.json")
_added: list[Path] = []


@dataclasses.dataclass(frozen=True)
class ZooEntry:
    """Trained weights of an index.

    Attributes:
        name: in the zoo, as in "smca://name".
        url: http(s) address, or an absolute path.
        sha256: of the file, 64 hexadecimal digits.
        size: of the file in bytes.
        config: zoo name of the experiment, "" where only the file describes its model.
        class_names: where the names of the classes are from: "checkpoint" (the file has them) or "coco".
        metrics: flat names such as "bbox/AP", in percent.
        training_log: address or path of it, "" if there is none.
        licence: of the weights.
    """

    name: str
    url: str
    sha256: str
    size: int
    config: str = ""
    class_names: str = "checkpoint"
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    training_log: str = ""
    licence: str = ""

    @property
    def is_local(self) -> bool:
        return "://" not in self.url

    @property
    def file_name(self) -> str:
        """Of the file, without folders."""
        path = self.url if self.is_local else unquote(urlsplit(self.url).path)
        return PurePosixPath(path).name

    def to_json(self) -> dict[str, Any]:
        """As it stands in an index file under its name."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        return fields


def add_index(path: str | Path) -> None:
    """Add a file of a team's own weights for the rest of this process; its names take precedence.

    Args:
        path: a json file ``{"format": 1, "weights": {name: entry}}``. See :class:`ZooEntry` for the fields; a ``url``
            may also be a path relative to the file, or file://.

    Raises:
        InputError: if the file cannot be read or an entry is not right.
    """
    path = Path(path).absolute()
    read_index(path)
    _added.append(path)


def all_entries() -> dict[str, ZooEntry]:
    """By name, of the shipped index, those of $SMCA_ZOO_INDEX and those added; the last of a name counts.

    Raises:
        InputError: if one of them cannot be read, or an entry is not right.
    """
    listed = [Path(path) for path in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if path]
    entries = {}
    for path in (_SHIPPED, *listed, *_added):
        entries.update(read_index(path))
    return entries


def find_entry(name: str) -> ZooEntry:
    """The entry of a name.

    Raises:
        InputError: if no index has the name, naming the nearest.
    """
    entries = all_entries()
    if name in entries:
        return entries[name]
    near = difflib.get_close_matches(name, entries, n=3, cutoff=0.4)
    raise InputError(
        f"no trained weights of {name!r} are published"
        + (f"; did you mean {' or '.join(near)}?" if near else
           ": train it with train_net.py, or convert a released checkpoint with tools/convert_checkpoint.py")
    )  # fmt: skip


def check_name(name: str, where: str = "") -> None:
    """Refuse a name that would be none of an entry.

    Args:
        name: in the zoo.
        where: to begin the message with.

    Raises:
        InputError: if it is no name for an index.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", name) or ".." in name:
        raise InputError(f"{where}{name!r} is no name such as 'group/model_1'")


def read_index(path: Path) -> dict[str, ZooEntry]:
    """Entries of an index file by name.

    Raises:
        InputError: naming the file, the entry and the field.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"model zoo index {path} cannot be read: {error.strerror or error}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"model zoo index {path} is no json: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("weights"), dict):
        raise InputError(f'model zoo index {path} is no {{"format": {FORMAT}, "weights": {{...}}}}')
    if content.get("format") != FORMAT:
        raise InputError(
            f"model zoo index {path} has format {content.get('format')!r}, this version reads {FORMAT}"
        )
    return {name: _entry(name, node, path) for name, node in content["weights"].items()}


def _entry(name: str, node: Any, path: Path) -> ZooEntry:
    where = f"model zoo index {path}: {name!r}"
    check_name(name, f"model zoo index {path}: ")
    if not isinstance(node, dict):
        raise InputError(f"{where} is no json object")
    fields = {field.name: field for field in dataclasses.fields(ZooEntry) if field.name != "name"}
    for key in node:
        if key not in fields:
            raise InputError(
                f"{where} has an unknown field {key!r}; fields are {', '.join(fields)}"
            )
    for key, field in fields.items():
        if key not in node and field.default is field.default_factory is dataclasses.MISSING:
            raise InputError(f"{where} has no {key!r}")
    for key, value in node.items():
        if not _VALID[key](value):
            raise InputError(f"{where} has {key} {value!r}, which is not valid")
    entry = ZooEntry(name=name, **{**node, "url": _absolute(node["url"], path.parent)})
    if not entry.file_name.endswith(SUFFIXES):
        raise InputError(
            f"{where} has url {node['url']!r}, which names no {', '.join(SUFFIXES)} file"
        )
    return entry


def _absolute(url: str, folder: Path) -> str:
    if url.startswith("file://"):
        return unquote(urlsplit(url).path)
    return url if "://" in url else str(folder.absolute() / Path(url).expanduser())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_VALID = {
    "url": lambda v: isinstance(v, str) and bool(re.fullmatch(r"(https?|file)://\S+|(?!\w+://).+", v)),
    "sha256": lambda v: isinstance(v, str) and bool(re.fullmatch("[0-9a-f]{64}", v)),
    "size": lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0,
    "config": lambda v: isinstance(v, str),
    "class_names": lambda v: v in ("checkpoint", "coco"),
    "metrics": lambda v: isinstance(v, dict) and all(_is_number(number) for number in v.values()),
    "training_log": lambda v: isinstance(v, str),
    "licence": lambda v: isinstance(v, str),
}  # fmt: skip
