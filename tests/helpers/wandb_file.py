"""Reads what an offline run of W&B leaves: protocol buffers in the log format of LevelDB."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER, _IDENTITY = 32768, 7, 7
_FULL, _LAST = 1, 4


def history(path: Path) -> list[dict]:
    """One dict per call of ``Run.log``, of a run that was finished: W&B's own process writes the end a little later."""
    deadline = time.monotonic() + 60
    records = _read(path)
    while not any(record.HasField("exit") for record in records):
        assert time.monotonic() < deadline, f"{path} has no end"
        time.sleep(0.1)
        records = _read(path)
    rows = []
    for record in records:
        if record.HasField("history"):
            items = record.history.item
            rows.append(
                {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in items}
            )
    return rows


def _read(path: Path) -> list[wandb_internal_pb2.Record]:
    records = []
    for raw in _records(path.read_bytes()):
        records.append(wandb_internal_pb2.Record())
        records[-1].ParseFromString(raw)
    return records


def _records(content: bytes) -> Iterator[bytes]:
    position, whole = _IDENTITY, b""
    while position + _HEADER <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + _HEADER])
        position += _HEADER
        whole += content[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield whole
            whole = b""
