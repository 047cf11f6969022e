"""Videos through the command, with a detector that finds a bright patch."""

import builtins
import csv
import json

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from smca.inference import Predictor
from smca.inference.command import main as command
from smca.inference.command.video import USUAL_RATE, VideoReader, VideoWriter
from smca.visualization.boxes import class_color
from smca_predict import parse_arguments

HEIGHT, WIDTH, SIDE = 120, 160, 20


class PatchFinder(nn.Module):
    """One detection around all pixels that are nearly white."""

    def forward(self, batched_inputs):
        outputs = []
        for item in batched_inputs:
            image = item["image"]
            rows, columns = torch.nonzero(image.float().mean(0) > 200, as_tuple=True)
            found = Instances(tuple(image.shape[1:]))
            found.pred_boxes = Boxes(
                torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])[None]
            )
            found.scores = torch.tensor([0.9])
            found.pred_classes = torch.tensor([0])
            outputs.append(
                {"instances": detector_postprocess(found, item["height"], item["width"])}
            )
        return outputs


class FakeCapture:
    """What OpenCV says of a source, as told, with ``frames`` frames; then an end or an interruption."""

    def __init__(self, *, rate, count, frames, end=None):
        self.rate, self.count, self.left, self.end = rate, count, frames, end

    def __call__(self, source):
        return self

    def isOpened(self):  # noqa: N802 - OpenCV's name
        return True

    def get(self, key):
        return {cv2.CAP_PROP_FPS: self.rate, cv2.CAP_PROP_FRAME_COUNT: self.count}.get(key, 0.0)

    def read(self):
        if not self.left:
            if self.end is not None:
                raise self.end
            return False, None
        self.left -= 1
        return True, frame_of(0)

    def release(self):
        pass


@pytest.fixture(autouse=True)
def _patch_finder(monkeypatch):
    def from_checkpoint(source, *, max_detections=None, **options):
        # 96 x 128 pixels, so that boxes have to be scaled back.
        sizes = {"min_size": 96, "max_size": 128, "class_names": ["patch"]}
        return Predictor(model=PatchFinder(), **sizes, **options)

    monkeypatch.setattr(command.Predictor, "from_checkpoint", from_checkpoint)


def corner_of(number):
    """(x, y) of the patch in a frame, another one in each of 300."""
    return 4 + 2 * (number % 60), 24 + 16 * (number // 60)


def frame_of(number):
    frame = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    x, y = corner_of(number)
    frame[y : y + SIDE, x : x + SIDE] = 255
    return frame


def write_video(path, count=300, codec="mp4v", rate=24):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), rate, (WIDTH, HEIGHT))
    for number in range(count):
        writer.write(frame_of(number))
    writer.release()
    return path


def run(*arguments):
    return command.run(
        parse_arguments(["--weights", "none", "--device", "cpu", *map(str, arguments)])
    )


def test_300_frames(tmp_path, capsys):
    video = write_video(tmp_path / "a clip.mp4")
    out = tmp_path / "out"
    assert run(video, "--output", out, "--json", out / "r.json", "--csv", out / "r.csv") == 0
    printed = capsys.readouterr().out
    assert f"{video}: 300 frames in " in printed
    assert " frames per second, " in printed
    assert sorted(p.name for p in out.iterdir()) == [
        "a clip.mp4",
        "r.csv",
        "r.images.json",
        "r.json",
    ]

    entries = json.loads((out / "r.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(300))
    assert [entry["image_id"] for entry in entries] == list(range(300))
    for entry in entries:
        expected = [*corner_of(entry["frame"]), SIDE, SIDE]
        assert np.abs(np.subtract(entry["bbox"], expected)).max() <= 2.5
    with open(out / "r.csv", newline="") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == [str(n) for n in range(300)]

    annotated = VideoReader(out / "a clip.mp4")
    assert annotated.rate == 24
    frames = list(annotated)
    assert len(frames) == annotated.num_frames == 300
    red = np.array(class_color(0)[::-1])
    for number, frame in enumerate(frames):
        assert frame.shape == (HEIGHT, WIDTH, 3)
        x, y = corner_of(number)
        assert frame[y + 5 : y + 15, x + 5 : x + 15].mean() > 230, number
        middle = SIDE // 2
        edges = [(y + middle, x), (y + middle, x + SIDE), (y + SIDE, x + middle)]
        for row, column in edges:
            around = frame[row - 3 : row + 4, max(0, column - 3) : column + 4].reshape(-1, 3)
            assert np.abs(around.astype(int) - red).sum(1).min() < 140, number


def test_a_damaged_video_ends_with_what_could_be_read(tmp_path, capsys):
    whole = write_video(tmp_path / "whole.avi", 100, "MJPG").read_bytes()
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(whole[: int(0.6 * len(whole))])
    assert run(damaged, tmp_path / "whole.avi", "--output", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "damaged.avi: it says it has 100 frames, but only " in captured.err
    assert captured.err.count("smca-predict") == 1
    read = len(list(VideoReader(tmp_path / "out" / "damaged.mp4")))
    assert 40 < read < 70
    assert len(list(VideoReader(tmp_path / "out" / "whole.mp4"))) == 100


@pytest.mark.parametrize("content", [b"", b"no video" * 100, "half"])
def test_what_is_no_video_is_named(tmp_path, capsys, content):
    if content == "half":
        # Its index is at the end.
        content = write_video(tmp_path / "a.mp4").read_bytes()[:5000]
    (tmp_path / "a.mp4").write_bytes(content)
    assert run(tmp_path / "a.mp4", "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"smca-predict: {tmp_path / 'a.mp4'}: ")
    assert len(error.splitlines()) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_without_opencv_there_is_a_sentence(tmp_path, monkeypatch, capsys):
    video = write_video(tmp_path / "a.mp4", 3)
    real = builtins.__import__

    def without_cv2(name, *arguments, **options):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_cv2)
    assert run(video) == 2
    assert "a.mp4: video needs OpenCV; install it" in capsys.readouterr().err


@pytest.mark.parametrize("rate", [0.0, float("nan"), 90000.0])
@pytest.mark.parametrize("count", [-1.0, 0.0, -9.2e18, float("nan")])
def test_a_source_that_knows_neither_rate_nor_length(tmp_path, monkeypatch, rate, count):
    (tmp_path / "a.mkv").write_bytes(b"x")
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture(rate=rate, count=count, frames=5))
    reader = VideoReader(tmp_path / "a.mkv")
    assert (reader.rate, reader.num_frames) == (USUAL_RATE, None)
    assert len(list(reader)) == 5
    assert not reader.is_cut_off


def test_most_frames(tmp_path, capsys):
    video = write_video(tmp_path / "a.mp4", 50)
    assert run(video, "--max-frames", 7, "--json", tmp_path / "r.json") == 0
    assert len(json.loads((tmp_path / "r.json").read_text())) == 7
    assert "a.mp4: 7 frames in" in capsys.readouterr().out


def test_a_camera_runs_until_it_is_interrupted(tmp_path, monkeypatch, capsys):
    camera = FakeCapture(rate=30.0, count=-1.0, frames=6, end=KeyboardInterrupt())
    monkeypatch.setattr(cv2, "VideoCapture", camera)
    target = tmp_path / "r.json"
    assert run("--camera", 0, "--output", tmp_path / "out", "--json", target) == 0
    assert [e["file_name"] for e in json.loads(target.read_text())] == ["camera 0"] * 6
    assert "camera 0: 6 frames in" in capsys.readouterr().out


def test_a_cameras_video_keeps_to_the_clock(tmp_path, monkeypatch):
    class Slow(FakeCapture):
        def read(self):
            now[0] += 0.2
            return super().read()

    now = [100.0]
    with monkeypatch.context() as patch:
        patch.setattr("smca.inference.command.prediction_run.time.perf_counter", lambda: now[0])
        patch.setattr(cv2, "VideoCapture", Slow(rate=30.0, count=-1.0, frames=10))
        assert run("--camera", 3, "--output", tmp_path) == 0
    # Five frames per second for two seconds.
    assert abs(len(list(VideoReader(tmp_path / "camera_3.mp4"))) - 60) <= 1


def test_an_interrupted_video_is_whole(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4", 4)
    interrupted = FakeCapture(rate=24.0, count=100.0, frames=9, end=KeyboardInterrupt())
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "VideoCapture", interrupted)
        patch.setattr("smca.inference.predictor._usable_processors", lambda: 1)
        assert run(video, "--output", tmp_path / "out", "--batch-size", 1) == 130
    assert len(list(VideoReader(tmp_path / "out" / "a.mp4"))) == 9


def test_another_encoder_where_there_is_no_mpeg_4(tmp_path, monkeypatch):
    real = cv2.VideoWriter

    class Closed:
        def isOpened(self):  # noqa: N802 - OpenCV's name
            return False

    def without_mp4(path, *arguments):
        return Closed() if path.endswith(".mp4") else real(path, *arguments)

    monkeypatch.setattr(cv2, "VideoWriter", without_mp4)
    # The first place for an .avi is an input's.
    video = write_video(tmp_path / "clip.avi", 10, "MJPG")
    before = video.read_bytes()
    assert run(video, "--output", tmp_path) == 0
    assert video.read_bytes() == before
    assert len(list(VideoReader(tmp_path / "clip_2.avi"))) == 10


def test_a_place_where_no_video_can_be_written(tmp_path):
    writer = VideoWriter(lambda suffix: tmp_path / "nowhere" / f"a{suffix}", rate=25)
    with pytest.raises(OSError, match="OpenCV cannot write a video of 160x120 pixels"):
        writer.write(frame_of(0))
