"""What a run says about its images, without a model."""

import errno
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image

from smca.data.image_file import MAX_PIXELS, read_image
from smca.inference.command import prediction_run
from smca.inference.command.output_names import OutputNames
from smca.inference.command.pictures import picture_name, write_picture
from smca.inference.command.prediction_run import PredictionRun
from smca.visualization.detections import paint_detections


class _NothingFound:
    ahead = 1
    max_pixels = MAX_PIXELS
    class_names = ()

    def stream(self, images):
        for image in images:
            found = Instances(image.shape[:2], scores=torch.zeros(0))
            found.pred_boxes = Boxes(torch.zeros(0, 4))
            found.pred_classes = torch.zeros(0, dtype=torch.int64)
            yield found


def test_8_bits_stored_in_16_are_told_once(tmp_path):
    paths = [tmp_path / name for name in ("black.png", "x.png", "y.png")]
    for path, most in zip(paths, (0, 255, 255), strict=True):
        values = np.linspace(0, most, 60).reshape(6, 10)
        Image.fromarray(values.astype(np.uint16)).save(path)
    said = []
    run = PredictionRun(predictor=_NothingFound(), complain=said.append)
    run.predict_files(paths)
    assert (run.num_images, run.num_problems) == (3, 0)
    (sentence,) = said
    assert sentence.startswith(
        f"{paths[1]}: 16-bit image whose values are all below 256 is nearly black; convert it to 8 bits"
    )


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), (8, 8)), ((100, 60), (400, 240)), ((399, 300), (798, 600)), ((400, 9), (400, 9))],
)
def test_small_images_are_enlarged(tmp_path, size, expected):
    colors = np.full((*size, 3), (200, 100, 20), np.uint8)
    Image.fromarray(colors).save(tmp_path / "x.png")
    names = OutputNames(folder=tmp_path / "out", inputs=[])
    PredictionRun(predictor=_NothingFound(), names=names).predict_files([tmp_path / "x.png"])
    drawn = np.asarray(Image.open(tmp_path / "out" / "x.png"))
    assert drawn.shape == (*expected, 3)
    assert (drawn == (200, 100, 20)).all()


def test_reading_and_drawing_are_beside_the_model(tmp_path, monkeypatch):
    """The second image is read, and the first one drawn, while the model has not gone on."""
    drawn = threading.Event()
    reading = [threading.Event() for _ in range(3)]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(path)

    def read(path, **options):
        reading[int(path.stem)].set()
        return read_image(path, **options)

    def draw(*args, **options):
        drawn.set()
        return paint_detections(*args, **options)

    class Waits(_NothingFound):
        def stream(self, images):
            for number, found in enumerate(super().stream(images)):
                if number < 2:
                    assert reading[number + 1].wait(10)
                if number == 1:
                    assert drawn.wait(10)
                yield found

    monkeypatch.setattr(prediction_run, "read_image", read)
    monkeypatch.setattr(prediction_run, "paint_detections", draw)
    names = OutputNames(folder=tmp_path / "out", inputs=paths)
    PredictionRun(predictor=Waits(), names=names).predict_files(paths)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "1.png", "2.png"]


def test_a_fault_of_code_is_no_bad_file(tmp_path, monkeypatch):
    def read_image(path, **options):
        raise ValueError("a fault of code")

    monkeypatch.setattr(prediction_run, "read_image", read_image)
    with pytest.raises(ValueError, match="a fault of code"):
        PredictionRun(predictor=_NothingFound()).predict_files([tmp_path / "x.png"])


class _Recorded:
    """Results that remember which pictures they name."""

    def __init__(self):
        self.pictures = []

    def add(self, record):
        self.pictures.append(Path(record.annotated).name)


def gray_images(folder, count):
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(np.full((4, 4, 3), 9, np.uint8)).save(path)
    return paths


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_pictures_and_results_agree_where_one_cannot_be_written(tmp_path, monkeypatch, ahead):
    """Whose content the disk has no room for; there would be for that of the next."""
    paths = gray_images(tmp_path, 6)
    results, real = _Recorded(), prediction_run.write_picture

    def write(path, pixels):
        if path.stem == "2":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, pixels)

    monkeypatch.setattr(prediction_run, "write_picture", write)
    monkeypatch.setattr(_NothingFound, "ahead", ahead)
    names = OutputNames(folder=tmp_path / "out", inputs=paths)
    run = PredictionRun(predictor=_NothingFound(), results=[results], names=names)
    with pytest.raises(OSError, match="No space"):
        run.predict_files(paths)
    assert results.pictures == ["0.png", "1.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == results.pictures


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_pictures_and_results_agree_where_a_folder_cannot_be_made(tmp_path, monkeypatch, ahead):
    paths = gray_images(tmp_path, 4)
    out = tmp_path / "out"
    out.mkdir()
    (out / "b").write_text("a file")
    results = _Recorded()
    monkeypatch.setattr(_NothingFound, "ahead", ahead)
    names = OutputNames(folder=out, inputs=paths, below={paths[2]: Path("b")})
    run = PredictionRun(predictor=_NothingFound(), results=[results], names=names)
    with pytest.raises(OSError, match="b"):
        run.predict_files(paths)
    assert results.pictures == ["0.png", "1.png"]
    assert sorted(path.name for path in out.glob("*.png")) == results.pictures


def test_nothing_follows_a_record_that_cannot_be_written(tmp_path, monkeypatch):
    class Full(_Recorded):
        def add(self, record):
            super().add(record)
            if len(self.pictures) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")

    paths, results = gray_images(tmp_path, 6), Full()
    monkeypatch.setattr(_NothingFound, "ahead", 3)
    names = OutputNames(folder=tmp_path / "out", inputs=paths)
    run = PredictionRun(predictor=_NothingFound(), results=[results], names=names)
    with pytest.raises(OSError, match="No space"):
        run.predict_files(paths)
    assert results.pictures == ["0.png", "1.png"]


@pytest.mark.parametrize(
    ("name", "side", "picture", "file_format"),
    [
        ("x.JPG", 40, "x.JPG", "JPEG"),
        ("x.png", 40, "x.png", "PNG"),
        ("x.bmp", 40, "x.png", "PNG"),
        ("x.jpg", 65500, "x.jpg", "JPEG"),
        ("x.jpg", 65501, "x.png", "PNG"),
    ],
)
def test_a_picture_is_of_the_format_of_its_name(tmp_path, name, side, picture, file_format):
    pixels = np.zeros((2, side, 3), np.uint8)
    assert picture_name(Path(name), pixels) == picture
    write_picture(tmp_path / picture, pixels)
    with Image.open(tmp_path / picture) as written:
        assert (written.format, written.size) == (file_format, (side, 2))
