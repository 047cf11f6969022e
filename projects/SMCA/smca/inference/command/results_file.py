"""Detections in files: COCO's results json, the list of its images, and CSV. All are whole whenever they are there."""

import contextlib
import csv
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from detectron2.structures import Instances

from smca.text import class_name, printable
from smca.whole_file import is_written_in_place, naming, replacing

from .coco_ids import CocoIds
from .console import STDOUT


@dataclasses.dataclass(frozen=True)
class Record:
    """What was found in one image.

    Attributes:
        file: its path as it was given.
        frame: number from 0, of a video's.
        image_id: of the json.
        instances: the detections.
        annotated: the file that shows them, if one was written.
    """

    file: str
    frame: int | None
    image_id: int
    instances: Instances
    annotated: str | None = None

    def rows(self) -> list[tuple[list[float], int, float]]:
        """(x1, y1, x2, y2) in pixels, class and score of each detection."""
        found = self.instances
        boxes = found.pred_boxes.tensor.tolist()
        return list(zip(boxes, found.pred_classes.tolist(), found.scores.tolist(), strict=True))


class ResultsFile:
    """A text file that is put in its place at the end, also of an interrupted run; a pipe gets each record at once.

    All methods raise an OSError with the file's name if it cannot be written.
    """

    def __init__(self, path: Path | None):
        """
        Args:
            path: None is standard output.
        """
        self.name = STDOUT if path is None else str(path)
        self._is_live = path is None or is_written_in_place(path)
        self._is_torn = False
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(_open(path))
            with naming(self.name):
                self._begin()
            self._stack = stack.pop_all()

    def add(self, record: Record) -> None:
        try:
            with naming(self.name):
                self._write(record)
                if self._is_live:
                    self._file.flush()
        except OSError:
            self._is_torn = True
            raise

    def __enter__(self) -> "ResultsFile":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._is_torn:
            self._stack.__exit__(*error)
            return
        # Not told of an error elsewhere: what was written until then is wanted.
        with self._stack, naming(self.name):
            self._end()
            self._file.flush()

    def _begin(self) -> None:
        """What stands before the first record."""

    def _write(self, record: Record) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        """What stands behind the last record."""


class JsonList(ResultsFile):
    """A line per entry."""

    _OPENING, _CLOSING = "[", "\n]\n"
    _separator = ""

    def _begin(self) -> None:
        self._file.write(self._OPENING)

    def _write_entry(self, entry: dict[str, Any]) -> None:
        self._file.write(f"{self._separator}\n{json.dumps(entry)}")
        self._separator = ","

    def _end(self) -> None:
        self._file.write(self._CLOSING)


class JsonResults(JsonList):
    """COCO's results: image_id, category_id, bbox (x, y, width, height) and score of each detection.

    Without ids of a data set's images, they are numbered from 0, and an entry also has its "file_name", and of a video
    its "frame". Without category ids classes are numbered from 0, too.
    """

    def __init__(
        self, path: Path | None, ids: CocoIds | None = None, class_ids: Sequence[int | str] = ()
    ):
        """
        Args:
            path: None is standard output.
            ids: of an annotation file, which count before ``class_ids``.
            class_ids: category ids of classes 0 .. K-1, as the checkpoint has them.
        """
        self._ids = ids
        self._class_ids = class_ids
        super().__init__(path)

    def _write(self, record: Record) -> None:
        for (x1, y1, x2, y2), class_id, score in record.rows():
            entry = {
                "image_id": record.image_id,
                "category_id": self._category_id(class_id),
                "bbox": [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 6),
            }
            if self._ids is None:
                entry["file_name"] = record.file
            if record.frame is not None:
                entry["frame"] = record.frame
            self._write_entry(entry)

    def _category_id(self, class_id: int) -> int | str:
        if self._ids is not None:
            return self._ids.category_id(class_id)
        return self._class_ids[class_id] if self._class_ids else class_id


class ImagesJson(JsonList):
    """The images of a results json: COCO's results have no entry for an image without detections.

    It is what pycocotools' ``COCO(...).loadRes`` takes the results with.
    """

    _OPENING = '{"images": ['

    def __init__(
        self,
        path: Path,
        class_names: Sequence[str] = (),
        ids: CocoIds | None = None,
        class_ids: Sequence[int | str] = (),
    ):
        numbers = class_ids or range(len(class_names)) if ids is None else ids.category_ids
        categories = [
            {"id": number, "name": name} for number, name in zip(numbers, class_names, strict=False)
        ]
        self._CLOSING = f'\n], "annotations": [], "categories": {json.dumps(categories)}}}\n'
        super().__init__(path)

    @staticmethod
    def beside(path: Path) -> Path:
        """Its place: "results.images.json" of "results.json"."""
        return path.with_name(f"{path.stem}.images.json")

    def _write(self, record: Record) -> None:
        height, width = record.instances.image_size
        entry = {
            "id": record.image_id,
            "file_name": record.file,
            "width": width,
            "height": height,
            "detections": len(record.instances),
        }
        if record.frame is not None:
            entry["frame"] = record.frame
        if record.annotated is not None:
            entry["annotated"] = record.annotated
        self._write_entry(entry)


class CsvResults(ResultsFile):
    """A line per detection, and per image without any one whose cells for it are empty.

    "frame" is empty for images, coordinates are pixels, "annotated" is the file that shows the detection.
    """

    COLUMNS = (
        "file", "class_id", "class_name", "score", "x1", "y1", "x2", "y2", "frame", "annotated",
    )  # fmt: skip

    def __init__(self, path: Path | None, class_names: Sequence[str] = ()):
        self._class_names = class_names
        super().__init__(path)

    def _write(self, record: Record) -> None:
        file, annotated = _as_text(record.file), _as_text(record.annotated or "")
        frame = "" if record.frame is None else record.frame
        rows = record.rows()
        for box, class_id, score in rows:
            name = _as_text(class_name(class_id, self._class_names))
            corners = [f"{value:.4f}" for value in box]
            self._writer.writerow(
                [file, class_id, name, f"{score:.6f}", *corners, frame, annotated]
            )
        if not rows:
            self._writer.writerow([file, *[""] * 7, frame, annotated])

    def _begin(self) -> None:
        self._writer = csv.writer(self._file)
        self._writer.writerow(self.COLUMNS)


@contextlib.contextmanager
def _open(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    with replacing(path) as place, open(place, "w", encoding="utf-8", newline="") as file:
        yield file


def _as_text(value: str) -> str:
    """A cell that a spreadsheet shows instead of calculating it."""
    value = printable(value)
    # The wide ones mean the same to a spreadsheet in Japanese.
    return f"'{value}" if value.lstrip().startswith(tuple("=+-@＝＋－＠")) else value
