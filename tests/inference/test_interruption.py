"""Ctrl-C, SIGTERM and SIGHUP: in the test's own process, where they come at the moment that is meant."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from helpers.builders import ROOT
from helpers.checkpoints import tiny_checkpoint
from helpers.odd_images import picture
from smca.inference import Predictor, predictor
from smca.inference.command import main as command
from smca.inference.command import prediction_run
from smca.inference.command.interruption import Interruption
from smca.inference.command.output_names import OutputNames
from smca_predict import parse_arguments

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pth"))


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.fromarray(picture(60, 90)).save(tmp_path / "photos" / f"{number}.jpg")
    return tmp_path / "photos"


@pytest.fixture(autouse=True)
def _one_at_a_time(monkeypatch):
    monkeypatch.setattr(Predictor, "_batch_size_of", lambda self, pending: 1)
    monkeypatch.setattr(predictor, "_usable_processors", lambda: 1)


@pytest.fixture(autouse=True)
def _nobody_ignores_hangups():
    """The tests may run under nohup, which the command then respects."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def run(weights, photos, folder):
    files = ["--json", str(folder / "r.json"), "--csv", str(folder / "r.csv")]
    options = ["--weights", weights, "--device", "cpu", "--threshold", "0"]
    return command.run(
        parse_arguments([*options, *files, "--output", str(folder / "out"), str(photos)])
    )


def images_of(folder) -> list[set[str]]:
    """The names that each of the results has."""
    with (folder / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = json.loads((folder / "r.images.json").read_text())["images"]
    return [
        {os.path.basename(entry["file_name"]) for entry in json.loads((folder / "r.json").read_text())},
        {os.path.basename(image["file_name"]) for image in listed},
        {os.path.basename(row["file"]) for row in rows},
        {path.name for path in (folder / "out").iterdir()},
    ]  # fmt: skip


@pytest.mark.parametrize("signum", STATUS)
def test_what_was_done_is_kept(weights, photos, tmp_path, monkeypatch, capsys, signum):
    real = prediction_run.read_image

    def read_image(path, **options):
        if path.name == "2.jpg":
            os.kill(os.getpid(), signum)
        return real(path, **options)

    monkeypatch.setattr(prediction_run, "read_image", read_image)
    handlers = {number: signal.getsignal(number) for number in STATUS}
    assert run(weights, photos, tmp_path) == STATUS[signum]
    assert images_of(tmp_path) == [{"0.jpg", "1.jpg"}] * 4
    assert not list(tmp_path.rglob("*.part"))
    assert capsys.readouterr().err == "smca-predict: interrupted; the results so far are kept\n"
    assert {number: signal.getsignal(number) for number in STATUS} == handlers


def test_what_is_drawn_beside_the_model_is_kept(weights, photos, tmp_path, monkeypatch, capsys):
    real, ran = Predictor._run, []

    def run_model(self, batch):
        ran.append(batch)
        if len(ran) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        real(self, batch)

    monkeypatch.setattr(predictor, "_usable_processors", lambda: 1000)
    monkeypatch.setattr(Predictor, "_run", run_model)
    assert run(weights, photos, tmp_path) == 130
    assert images_of(tmp_path) == [{"0.jpg", "1.jpg"}] * 4
    assert not list(tmp_path.rglob("*.part"))


def test_all_that_is_drawn_is_kept(weights, photos, tmp_path, monkeypatch):
    """The wish comes while the first image is drawn and the second one waits for that."""
    real_run, real_paint = Predictor._run, prediction_run.paint_detections
    ran, second = [], threading.Event()

    def run_model(self, batch):
        real_run(self, batch)
        ran.append(batch)
        if len(ran) == 2:
            second.set()

    def paint(*args, **options):
        if second.wait(10) and len(ran) == 2:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
            ran.append("told")
        return real_paint(*args, **options)

    monkeypatch.setattr(predictor, "_usable_processors", lambda: 1000)
    monkeypatch.setattr(Predictor, "_run", run_model)
    monkeypatch.setattr(prediction_run, "paint_detections", paint)
    assert run(weights, photos, tmp_path) == 130
    assert images_of(tmp_path) == [{"0.jpg", "1.jpg"}] * 4


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (OutputNames, "take"),
        (prediction_run, "write_picture"),
        (command.JsonResults, "add"),
        (command.CsvResults, "add"),
    ],
)
def test_an_image_is_in_all_results_or_none(weights, photos, tmp_path, monkeypatch, place, name):
    """The wish comes behind a step of the second image: its picture's name, the picture, its record in a file."""
    real, calls = getattr(place, name), []

    def wished(*args):
        result = real(*args)
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(place, name, wished)
    assert run(weights, photos, tmp_path) == 130
    assert images_of(tmp_path) == [{"0.jpg", "1.jpg"}] * 4


def test_a_second_wish_does_not_cut_the_files_off(weights, photos, tmp_path, monkeypatch):
    real = command.JsonResults._end

    def end(self):
        os.kill(os.getpid(), signal.SIGINT)
        real(self)

    monkeypatch.setattr(command.JsonResults, "_end", end)
    assert run(weights, photos, tmp_path) == 0
    assert len(images_of(tmp_path)[0]) == 4


def test_while_the_model_is_loaded(weights, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        command, "_make_predictor", lambda args: os.kill(os.getpid(), signal.SIGTERM)
    )
    assert run(weights, photos, tmp_path) == 143
    assert capsys.readouterr().err == ""


def test_what_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_during_start_up_there_is_no_traceback(weights, photos, signum):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "predict.py"), "--weights", weights, str(photos)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        # PyTorch is mapped at its import's beginning, seconds before its end.
        deadline = time.monotonic() + 60
        while "libtorch" not in _maps(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors) == (STATUS[signum], "")


def _maps(pid: int) -> str:
    with open(f"/proc/{pid}/maps") as file:
        return file.read()
