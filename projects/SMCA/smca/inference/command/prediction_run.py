"""Predicting a list of image and video files, writing what is wanted, and going on after a bad file."""

import contextlib
import dataclasses
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from smca.data.image_file import has_8_bits_in_more, read_image
from smca.errors import InputError
from smca.inference.ahead import map_ahead
from smca.inference.predictor import Predictor
from smca.text import printable
from smca.visualization.detections import paint_detections

from .coco_ids import CocoIds
from .output_names import OutputNames
from .pictures import magnification, picture_name, write_picture
from .results_file import Record, ResultsFile
from .sources import is_video
from .video import VideoReader, VideoWriter


@dataclasses.dataclass(frozen=True)
class _Found:
    """An image's detections, and the file that is to show them; None where none is wanted."""

    path: Path
    id: int
    instances: Instances
    picture: Path | None


class PredictionRun:
    """
    Attributes:
        num_images: images that were predicted.
        num_frames: frames of videos that were predicted.
        num_detections: of both.
        num_empty: images and frames without any.
        num_problems: inputs that could not be read, or not to their end.
    """

    def __init__(
        self,
        *,
        predictor: Predictor,
        results: Sequence[ResultsFile] = (),
        names: OutputNames | None = None,
        ids: CocoIds | None = None,
        max_frames: int | None = None,
        tell: Callable[[str], None] = print,
        complain: Callable[[str], None] = print,
        whole: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        """
        Args:
            predictor: see there.
            results: open files for the detections.
            names: of annotated images and videos; None writes none.
            ids: of a data set's images; without, images and frames are numbered from 0 in the order of the inputs.
            max_frames: most frames of a video or camera.
            tell: takes a line of output, such as the frames per second of a video.
            complain: takes a sentence that names a bad file.
            whole: what an image's results are written within, so that an interruption leaves them in all files or none.
        """
        self._predictor = predictor
        self._results = results
        self._names = names
        self._ids = ids
        self._max_frames = max_frames
        self._tell = tell
        self._complain = complain
        self._whole = whole
        self._next_id = 0
        self._is_black_told = False
        self.num_images = self.num_frames = 0
        self.num_detections = self.num_empty = self.num_problems = 0

    def predict_files(self, paths: Sequence[Path]) -> None:
        """Images and videos in the given order; a bad one is named and passed over.

        Raises:
            OSError: if a result cannot be written.
        """
        with tqdm(total=len(paths), unit="file", disable=_is_bar_off()) as bar:
            images: list[Path] = []
            for path in paths:
                if not is_video(path):
                    images.append(path)
                    continue
                self._predict_images(images, bar)
                images = []
                self.predict_video(path)
                bar.update()
            self._predict_images(images, bar)

    def problem(self, sentence: str) -> None:
        self.num_problems += 1
        self._complain(sentence)

    def predict_video(self, source: Path | int) -> None:
        """All frames of a video file, or of the camera of a number until it is interrupted.

        Raises:
            OSError: if a result cannot be written.
        """
        name = f"camera {source}" if isinstance(source, int) else str(source)
        try:
            reader = VideoReader(source)
        except InputError as error:
            self.problem(str(error))
            return
        file_name = f"camera_{source}" if isinstance(source, int) else source.stem
        output = None
        if self._names is not None:
            take = self._names.take
            output = VideoWriter(
                lambda suffix: take(f"{file_name}{suffix}", source), rate=reader.rate
            )
        before, start = self.num_frames, time.perf_counter()
        try:
            self._predict_frames(name, reader, output, is_live=isinstance(source, int))
        except InputError as error:
            self.problem(str(error))
        finally:
            reader.close()
            if output is not None:
                output.close()
            frames, seconds = self.num_frames - before, time.perf_counter() - start
            if frames:
                written = f", {output.path}" if output is not None else ""
                self._tell(
                    f"{name}: {frames} frames in {seconds:.1f} s, {frames / seconds:.1f} frames per second{written}"
                )
        if reader.is_cut_off:
            self.problem(
                f"{name}: it says it has {reader.num_frames} frames, but only {frames} could be read"
            )

    def _predict_frames(
        self, name: str, reader: VideoReader, output: VideoWriter | None, *, is_live: bool
    ) -> None:
        held: deque[np.ndarray] = deque()

        def frames() -> Iterator[np.ndarray]:
            for frame in islice(reader, self._max_frames):
                held.append(frame)
                yield frame

        start, written = time.perf_counter(), 0
        found = self._predictor.stream(frames(), ahead=0 if is_live else None)
        total = reader.num_frames
        if self._max_frames is not None:
            total = min(total or self._max_frames, self._max_frames)
        bar = tqdm(
            found,
            total=total,
            unit="frame",
            desc=printable(name),
            leave=False,
            disable=_is_bar_off(),
        )
        for number, instances in enumerate(bar):
            frame = held.popleft()
            with self._whole():
                self.num_frames += 1
                place = None
                if output is not None:
                    annotated = self._paint(frame, instances)[:, :, ::-1]
                    # A camera does not wait for the detector: its video keeps to the clock instead.
                    seconds = time.perf_counter() - start
                    until = round(seconds * output.rate) if is_live else number + 1
                    for _ in range(until - written):
                        output.write(annotated)
                        written += 1
                    place = str(output.path) if output.path is not None else None
                self._add(Record(name, number, self._take_id(), instances, place))

    def _predict_images(self, paths: Iterable[Path], bar: tqdm) -> None:
        """Reading, resizing and drawing are done by threads beside the model, where that helps."""
        held: deque[tuple[Path, int, np.ndarray | None]] = deque()

        def images() -> Iterator[np.ndarray]:
            for path, image in map_ahead(self._read, paths, ahead=self._predictor.ahead):
                # An image that cannot be read has its number, too, so that the others' do not depend on it.
                number = self._take_id()
                try:
                    image_id = number if self._ids is None else self._ids.image_id(path)
                    if isinstance(image, InputError):
                        raise image
                    self._tell_if_black(path, image)
                except InputError as error:
                    self.problem(str(error))
                    bar.update()
                    continue
                held.append((path, image_id, image if self._names else None))
                yield image

        drawn: deque[Future[_Found]] = deque()
        has_failed = threading.Event()

        def draw(found: _Found, image: np.ndarray | None) -> _Found:
            # What comes behind an image that cannot be written is not recorded, so there shall be no picture of it.
            if found.picture is not None and not has_failed.is_set():
                try:
                    self._draw(found, image)
                except OSError:
                    has_failed.set()
                    raise
            return found

        def record_next() -> None:
            try:
                found = drawn[0].result()
                with self._whole():
                    drawn.popleft()
                    self.num_images += 1
                    place = None if found.picture is None else str(found.picture)
                    self._add(Record(str(found.path), None, found.id, found.instances, place))
            except OSError:
                # Where one cannot be written the others cannot.
                has_failed.set()
                drawn.clear()
                raise
            bar.update()

        with ThreadPoolExecutor(1) as pool:
            try:
                for instances in self._predictor.stream(images()):
                    with self._whole():
                        path, image_id, image = held.popleft()
                        picture = None if image is None else self._take_name(path, image)
                        found = _Found(path, image_id, instances, picture)
                        drawn.append(pool.submit(draw, found, image))
                    while len(drawn) > self._predictor.ahead:
                        record_next()
            finally:
                # Also when it is interrupted: what was found is kept.
                while drawn:
                    record_next()

    def _read(self, path: Path) -> tuple[Path, np.ndarray | InputError]:
        try:
            return path, read_image(path, max_pixels=self._predictor.max_pixels)
        except InputError as error:
            return path, error

    def _tell_if_black(self, path: Path, image: np.ndarray) -> None:
        """Once: whoever stored one image so stored all of them so."""
        if not self._is_black_told and has_8_bits_in_more(path, image):
            self._is_black_told = True
            self._complain(
                f"{path}: 16-bit image whose values are all below 256 is nearly black; convert it to 8 bits (more such "
                "images are not named)"
            )

    def _add(self, record: Record) -> None:
        self.num_detections += len(record.instances)
        self.num_empty += not len(record.instances)
        for file in self._results:
            file.add(record)

    def _paint(self, image: np.ndarray, found: Instances, scale: int = 1) -> np.ndarray:
        """RGB of a BGR image."""
        return paint_detections(image[:, :, ::-1], found, self._predictor.class_names, scale=scale)

    def _draw(self, found: _Found, image: np.ndarray) -> None:
        """Until the picture is on the disk, for which it would wait longest where the model is fast."""
        annotated = self._paint(image, found.instances, scale=magnification(image))
        write_picture(found.picture, annotated)

    def _take_name(self, path: Path, image: np.ndarray) -> Path:
        wanted = picture_name(path, image)
        picture = self._names.take(wanted, path)
        if picture.name != wanted:
            self._tell(f"{path}: annotated in {picture}")
        return picture

    def _take_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1


def _is_bar_off() -> bool | None:
    """By default only on a terminal; with standard error closed it has no place at all."""
    return True if sys.stderr is None else None
