"""Frames of video files and cameras, and video files of annotated frames, by OpenCV."""

import contextlib
import errno
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from smca.data.image_file import check_file
from smca.errors import InputError
from smca.whole_file import replacing

USUAL_RATE = 25.0
"""Frames per second of a source that does not say."""

_LAST_CAMERA = 99
"""OpenCV takes higher numbers for a camera and the driver to read it with; negative ones make it crash."""

_CODECS = (("mp4v", ".mp4"), ("MJPG", ".avi"))
_WHOLE = 0.95
_LOG_LEVEL = "OPENCV_LOG_LEVEL"


class VideoReader:
    """Frames in order. A damaged file ends with the last frame that could be read.

    Attributes:
        rate: frames per second as the source says, or the usual rate.
        num_frames: as the source says, which may be wrong; None if it does not.
        is_cut_off: whether the frames ended well before the file says they do; known at the end.
    """

    def __init__(self, source: str | os.PathLike | int):
        """
        Args:
            source: a file, or the number of a camera.

        Raises:
            InputError: if it cannot be opened, or OpenCV is not installed.
        """
        cv2 = import_cv2(source)
        if isinstance(source, int):
            check_camera(source)
        else:
            source = os.path.abspath(source)
            check_file(Path(source))
        self._cv2 = cv2
        self._name = f"camera {source}" if isinstance(source, int) else source
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            raise InputError(f"{self._name}: it cannot be opened as a video")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if math.isfinite(rate) and 0 < rate <= 1000 else USUAL_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        is_known = not isinstance(source, int) and math.isfinite(count) and 0 < count < 1e9
        self.num_frames = int(count) if is_known else None
        self.is_cut_off = False

    def __iter__(self) -> Iterator[np.ndarray]:
        """
        Yields:
            (height, width, 3) BGR uint8, all of the first one's size.

        Raises:
            InputError: if there is not a single frame.
        """
        read, milliseconds, size = 0, 0.0, None
        while True:
            is_read, frame = self._capture.read()
            if not is_read:
                break
            if size is None:
                size = frame.shape[1::-1]
            elif frame.shape[1::-1] != size:
                frame = self._cv2.resize(frame, size)
            milliseconds = self._capture.get(self._cv2.CAP_PROP_POS_MSEC)
            read += 1
            yield frame
        if not read:
            raise InputError(f"{self._name}: no frame of it can be read")
        if self.num_frames is not None:
            # A variable rate makes the number of frames a guess in some formats, and the time in others.
            seconds = milliseconds / 1000 + 1 / self.rate
            self.is_cut_off = (
                read < _WHOLE * self.num_frames and seconds < _WHOLE * self.num_frames / self.rate
            )

    def close(self) -> None:
        self._capture.release()


class VideoWriter:
    """An .mp4 file, or an .avi where OpenCV has no encoder for it; put in its place whole by ``close``.

    ``path`` is where it is, once there is a frame.
    MPEG-4 has even sizes only: of an odd width or height the last column or row is left out.
    """

    def __init__(self, place: Callable[[str], Path], *, rate: float):
        """
        Args:
            place: a suffix such as ".mp4" to the path of the file.
            rate: frames per second.
        """
        self.rate = rate
        self.path: Path | None = None
        self._place = place
        self._writer = None
        self._file: contextlib.ExitStack | None = None
        self._partial: Path | None = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame.

        Args:
            frame: (height, width, 3) BGR uint8, of one size in all calls.

        Raises:
            OSError: if no encoder can be opened.
        """
        if self._writer is None:
            self._open(frame.shape[1::-1])
        self._writer.write(frame)

    def close(self) -> None:
        """Without a frame there will be no file.

        Raises:
            OSError: if the video is not whole, which OpenCV does not tell; nothing of it is left.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with self._file:
            if not _is_readable(self._partial):
                raise OSError(errno.ENOSPC, "the disk is full", str(self.path))

    def _open(self, size: tuple[int, int]) -> None:
        cv2 = import_cv2("output")
        for codec, suffix in _CODECS:
            path = self._place(suffix)
            with contextlib.suppress(_NoEncoderError), contextlib.ExitStack() as stack:
                partial = stack.enter_context(replacing(path, ending=suffix))
                code = cv2.VideoWriter_fourcc(*codec)
                writer = cv2.VideoWriter(str(partial), code, self.rate, size)
                if not writer.isOpened():
                    raise _NoEncoderError
                self.path, self._partial, self._writer = path, partial, writer
                self._file = stack.pop_all()
                return
        raise OSError(f"{path}: OpenCV cannot write a video of {size[0]}x{size[1]} pixels there")


class _NoEncoderError(Exception):
    """OpenCV cannot write a video there."""


def import_cv2(source: object) -> ModuleType:
    """OpenCV, without the messages that its decoders print.

    Raises:
        InputError: if it is not installed.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # A file that calls itself a video may be a playlist, which must not make us fetch something.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "protocol_whitelist;file")
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            f"{source}: video needs OpenCV; install it with pip install opencv-python-headless"
        ) from error
    if _LOG_LEVEL not in os.environ:
        # It reads the variable when it is loaded, which Detectron2 has done by now.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def check_camera(number: int) -> None:
    """Refuse a number that no camera has.

    Raises:
        InputError: if no camera can have the number.
    """
    if not 0 <= number <= _LAST_CAMERA:
        raise InputError(f"--camera is {number}, it must be from 0 to {_LAST_CAMERA}")


def _is_readable(path: Path) -> bool:
    """Whether the file has its index, which is written last."""
    capture = import_cv2(path).VideoCapture(str(path))
    try:
        return capture.isOpened()
    finally:
        capture.release()
