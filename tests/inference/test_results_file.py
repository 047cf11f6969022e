"""Where results go: files, standard output, pipes, full disks; and what is in them of images without detections."""

import csv
import errno
import io
import json
import os
import sys
import threading

import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from pycocotools.coco import COCO

from helpers.checkpoints import CLASS_NAMES, tiny_checkpoint
from helpers.odd_images import picture
from smca.inference.command import main as command
from smca.inference.command import prediction_run
from smca.inference.command.results_file import CsvResults, Record
from smca.text import class_name
from smca_predict import parse_arguments


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pth"))


@pytest.fixture
def photos(tmp_path):
    """Of two kinds that are annotated as one, and a folder with a file of the same name."""
    for name in ("photos/x.jpg", "photos/y.bmp", "photos/y.png", "photos/sub/x.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(60, 90)).save(path)
    return tmp_path / "photos"


def run(weights, *arguments, threshold=0.0, most=2):
    options = ["--weights", weights, "--device", "cpu", "--max-detections", str(most)]
    return command.run(
        parse_arguments([*options, "--threshold", str(threshold), *map(str, arguments)])
    )


def test_images_without_detections_are_listed(weights, photos, tmp_path, capsys):
    target, table, out = tmp_path / "r.json", tmp_path / "r.csv", tmp_path / "out"
    arguments = (photos, "-r", "--json", target, "--csv", table, "--output", out)
    assert run(weights, *arguments, threshold=1) == 0
    assert "4 images, 0 detections (4 without any)" in capsys.readouterr().out
    assert json.loads(target.read_text()) == []
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [str(photos / name) for name in ("sub/x.jpg", "x.jpg", "y.bmp", "y.png")]
    assert [row["file"] for row in rows] == names
    assert {row["class_id"] + row["score"] + row["x1"] + row["frame"] for row in rows} == {""}
    listed = json.loads((tmp_path / "r.images.json").read_text())["images"]
    assert [image["file_name"] for image in listed] == names
    assert [image["detections"] for image in listed] == [0] * 4


def test_annotated_files_lead_back_to_their_images(weights, photos, tmp_path, capsys):
    target, table, out = tmp_path / "r.json", tmp_path / "r.csv", tmp_path / "out"
    assert run(weights, photos, "-r", "--json", target, "--csv", table, "--output", out) == 0
    annotated = [str(out / name) for name in ("sub/x.jpg", "x.jpg", "y.png", "y_2.png")]
    with table.open(newline="") as file:
        assert [row["annotated"] for row in csv.DictReader(file)][::2] == annotated
    listed = json.loads((tmp_path / "r.images.json").read_text())["images"]
    assert [image["annotated"] for image in listed] == annotated
    assert all(map(os.path.isfile, annotated))
    # Without a table the other name is told.
    assert f"{photos / 'y.png'}: annotated in {out / 'y_2.png'}" in capsys.readouterr().out


def test_pycocotools_loads_the_results_with_their_images(weights, photos, tmp_path):
    target = tmp_path / "r.json"
    assert run(weights, photos, "-r", "--json", target) == 0
    coco = COCO(str(tmp_path / "r.images.json"))
    assert len(coco.loadRes(str(target)).anns) == 8
    assert [category["name"] for category in coco.dataset["categories"]] == list(CLASS_NAMES)
    assert coco.loadImgs(1)[0]["file_name"] == str(photos / "x.jpg")


@pytest.mark.parametrize("option", ["--json", "--csv"])
@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_results_on_standard_output(weights, photos, capsys, option, name):
    assert run(weights, photos, option, name) == 0
    captured = capsys.readouterr()
    if option == "--json":
        assert len(json.loads(captured.out)) == 6
    else:
        assert len(list(csv.DictReader(io.StringIO(captured.out)))) == 6
    assert captured.err == "3 images, 6 detections\n"


def test_both_on_standard_output_is_one_too_many(weights, photos, capsys):
    assert run(weights, photos, "--json", "-", "--csv", "/dev/stdout") == 2
    assert "cannot both be standard output" in capsys.readouterr().err


def test_a_pipe_stays_one(weights, photos, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert run(weights, photos, "--json", pipe) == 0
    reader.join(10)
    assert len(json.loads(read[0])) == 6
    assert pipe.is_fifo()
    assert not list(tmp_path.glob("*.images.json"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_full_device(weights, photos, tmp_path, capsys, option):
    """Through a link: a device of this machine is not what a failing test may replace."""
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    assert run(weights, photos, option, link) == 2
    error = capsys.readouterr().err
    assert error == f"smca-predict: {link}: it cannot be written ({os.strerror(errno.ENOSPC)})\n"
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "photos"]


class FullDisk(io.TextIOWrapper):
    """A text file of which only the first bytes find room."""

    def __init__(self, path, *_, **options):
        super().__init__(io.FileIO(path, "wb"), **options, write_through=True)

    def write(self, text):
        if self.buffer.tell() + len(text) > 200:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)


def test_a_full_disk(weights, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("smca.inference.command.results_file.open", FullDisk, raising=False)
    target = tmp_path / "r.json"
    target.write_text("old")
    assert run(weights, photos, "--json", target) == 2
    error = capsys.readouterr().err
    assert error == f"smca-predict: {target}: it cannot be written ({os.strerror(errno.ENOSPC)})\n"
    assert target.read_text() == "old"
    assert not list(tmp_path.glob("*.part"))


def test_a_picture_that_finds_no_room(weights, photos, tmp_path, monkeypatch, capsys):
    def write_bytes(path, _content):
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(prediction_run.Path, "write_bytes", write_bytes)
    # The second one is drawn by then.
    monkeypatch.setattr("smca.inference.predictor._usable_processors", lambda: 1000)
    out = tmp_path / "out"
    assert run(weights, photos, "--output", out, "--csv", tmp_path / "r.csv") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"smca-predict: {out / 'x.jpg'}: it cannot be written (No space")
    assert list(out.iterdir()) == []
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 1


class Gone(io.StringIO):
    """Standard output whose reader takes the first line only, as ``head -1``."""

    encoding = "utf-8"

    def write(self, text):
        if self.getvalue().count("\n") >= 1:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        return super().write(text)


def test_a_reader_that_has_seen_enough(weights, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Gone())
    assert run(weights, photos) == command.STDOUT_CLOSED == 141
    assert run(weights, photos, "--json", "-") == 141
    # Nobody reads the last line, but all is done.
    assert run(weights, photos, "--json", tmp_path / "r.json") == 0
    assert len(json.loads((tmp_path / "r.json").read_text())) == 6
    assert "Broken" not in capsys.readouterr().err


def test_closed_standard_streams(weights, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    assert run(weights, photos) == 2
    assert "standard output is closed; name a file" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stderr", None)
    assert run(weights, photos, "--json", tmp_path / "r.json") == 0
    assert len(json.loads((tmp_path / "r.json").read_text())) == 6


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        (" \uff0b1", "'\uff0b1"),
        ("\x1b]0;gone\x07cat", r"\x1b]0;gone\x07cat"),
        ("two\nlines", "two lines"),
    ],
)
def test_names_that_a_spreadsheet_or_terminal_would_obey(tmp_path, name, cell):
    found = Instances((10, 10), pred_boxes=Boxes(torch.ones(1, 4)), scores=torch.ones(1))
    found.pred_classes = torch.zeros(1, dtype=torch.int64)
    with CsvResults(tmp_path / "r.csv", [name]) as file:
        file.add(Record("a\x1b[2Jb.jpg", None, 0, found))
    with (tmp_path / "r.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["class_name"] == cell
    assert row["file"] == r"a\x1b[2Jb.jpg"
    # Drawings and lines show what the table does.
    assert class_name(0, [name]) == cell.removeprefix("'")


def test_a_class_without_a_name_is_its_number():
    assert [class_name(k, ["cat"]) for k in (0, 1, 7)] == ["cat", "1", "7"]
