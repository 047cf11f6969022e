"""Detections in files: COCO's results json, and CSV. Both are whole whenever they are there."""

import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import Instances

from smca.text import printable

from .coco_ids import CocoIds


@dataclasses.dataclass(frozen=True)
class Record:
    """What was found in one image.

    Attributes:
        file: its path as it was given.
        frame: number from 0, of a video's.
        image_id: of the json.
        instances: the detections.
    """

    file: str
    frame: int | None
    image_id: int
    instances: Instances

    def rows(self) -> list[tuple[list[float], int, float]]:
        """(x1, y1, x2, y2) in pixels, class and score of each detection."""
        found = self.instances
        boxes = found.pred_boxes.tensor.tolist()
        return list(zip(boxes, found.pred_classes.tolist(), found.scores.tolist(), strict=True))


class ResultsFile:
    """A text file that is written beside its place and put there at the end, also of an interrupted run."""

    def __init__(self, path: Path):
        self.path = path
        self._partial = path.with_name(f"{path.name}.part")
        # A file name may hold bytes that are no text.
        self._file = open(  # noqa: SIM115 - closed by __exit__
            self._partial, "w", encoding="utf-8", errors="surrogateescape", newline=""
        )
        self._begin()

    def add(self, record: Record) -> None:
        raise NotImplementedError

    def __enter__(self) -> "ResultsFile":
        return self

    def __exit__(self, *error: Any) -> None:
        with self._file:
            self._end()
            self._file.flush()
            os.fsync(self._file.fileno())
        os.replace(self._partial, self.path)

    def _begin(self) -> None:
        """What stands before the first record."""

    def _end(self) -> None:
        """What stands behind the last record."""


class JsonResults(ResultsFile):
    """COCO's results: image_id, category_id, bbox (x, y, width, height) and score of each detection.

    Without ids of a data set, images are numbered from 0 and classes are contiguous, and an entry also has its
    "file_name", and of a video its "frame".
    """

    def __init__(self, path: Path, ids: CocoIds | None = None):
        self._ids = ids
        self._separator = ""
        super().__init__(path)

    def add(self, record: Record) -> None:
        for (x1, y1, x2, y2), class_id, score in record.rows():
            entry = {
                "image_id": record.image_id,
                "category_id": class_id if self._ids is None else self._ids.category_id(class_id),
                "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 6),
            }
            if self._ids is None:
                entry["file_name"] = record.file
            if record.frame is not None:
                entry["frame"] = record.frame
            self._file.write(f"{self._separator}\n{json.dumps(entry)}")
            self._separator = ","

    def _begin(self) -> None:
        self._file.write("[")

    def _end(self) -> None:
        self._file.write("\n]\n")


class CsvResults(ResultsFile):
    """A line per detection; "frame" is empty for images, coordinates are pixels."""

    COLUMNS = ("file", "class_id", "class_name", "score", "x1", "y1", "x2", "y2", "frame")

    def __init__(self, path: Path, class_names: Sequence[str] = ()):
        self._class_names = class_names
        super().__init__(path)

    def add(self, record: Record) -> None:
        frame = "" if record.frame is None else record.frame
        for box, class_id, score in record.rows():
            name = class_name(class_id, self._class_names)
            corners = [f"{value:.4f}" for value in box]
            row = [_as_text(record.file), class_id, _as_text(name)]
            self._writer.writerow([*row, f"{score:.6f}", *corners, frame])

    def _begin(self) -> None:
        self._writer = csv.writer(self._file)
        self._writer.writerow(self.COLUMNS)


def _as_text(value: str) -> str:
    """A cell that a spreadsheet shows instead of calculating it."""
    value = printable(value)
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value


def class_name(class_id: int, names: Sequence[str]) -> str:
    """A class's name on one line; its number if it has none."""
    return " ".join(names[class_id].split()) if class_id < len(names) else str(class_id)
