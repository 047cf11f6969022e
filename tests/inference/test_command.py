"""The command on a tiny model: what it writes, what it says, how it ends."""

import csv
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from helpers.builders import ROOT
from helpers.checkpoints import CLASS_NAMES, tiny_checkpoint
from helpers.odd_images import EITHER, picture, write_odd_images
from smca import Predictor
from smca.data.image_file import MAX_PIXELS, read_image
from smca.device import PRECISIONS
from smca.inference.command import main as command
from smca.inference.command import prediction_run
from smca_predict import build_parser, parse_arguments

RUN = [sys.executable, "-W", "ignore", str(ROOT / "tools" / "predict.py")]
MEASURED = """
import sys
from smca_predict import main
status = main(sys.argv[1:])
# Not getrusage, whose peak a new process takes over from the one that started it.
memory = open("/proc/self/status").read()
print("peak", int(memory.split("VmHWM:")[1].split()[0]) // 1024, "MiB")
sys.exit(status)
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return str(tiny_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pth"))


@pytest.fixture
def photos(tmp_path):
    """Two folders with a file of the same name, and one of another size."""
    folder = tmp_path / "photos"
    for name, size in (("a/x.jpg", (60, 90)), ("b/x.jpg", (60, 90)), ("b/y.png", (90, 60))):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(*size)).save(path)
    return folder


def run(weights, *arguments, threshold=0.0):
    options = ["--weights", weights, "--device", "cpu", "--threshold", str(threshold)]
    return command.run(parse_arguments([*options, *map(str, arguments)]))


def test_300_odd_images(weights, tmp_path):
    """In a process of its own, whose memory is measured."""
    odd_images = write_odd_images(tmp_path / "odd", 300)
    out = tmp_path / "out"
    paths = [str(odd.path) for odd in odd_images]
    options = ["--weights", weights, "--device", "cpu", "--threshold", "0", "--max-detections", "2"]
    results = ["--json", str(out / "all.json"), "--csv", str(out / "all.csv"), "--output", str(out)]
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURED, *options, *results, "--", *paths],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr
    peak = int(process.stdout.split("peak ")[1].split()[0])
    assert peak < 4096
    entries = json.loads((out / "all.json").read_text())
    predicted = {entry["file_name"] for entry in entries}
    for number, odd in enumerate(odd_images):
        # The file system's own name, as the message prints it.
        is_named = f"smca-predict: {odd.path}: " in process.stderr
        assert is_named != (str(odd.path) in predicted), odd.path
        if odd.shown is not EITHER:
            assert is_named == (odd.shown is None), odd.path
        ids = {e["image_id"] for e in entries if e["file_name"] == str(odd.path)}
        assert ids in (set(), {number})
    listed = json.loads((out / "all.images.json").read_text())["images"]
    assert {image["file_name"] for image in listed} == predicted
    pictures = [path for path in out.iterdir() if path.suffix not in (".json", ".csv")]
    assert len(pictures) == len(predicted)
    # What was predicted is what a viewer shows.
    predictor = Predictor.from_checkpoint(weights, device="cpu", max_detections=2)
    for odd in [odd for odd in odd_images if isinstance(odd.shown, np.ndarray)][::6]:
        best = predictor(read_image(odd.path)).scores[0].item()
        found = [e["score"] for e in entries if e["file_name"] == str(odd.path)]
        assert max(found) == pytest.approx(best, abs=1e-4)


def test_what_is_written(weights, photos, tmp_path, capsys):
    out = tmp_path / "new" / "out"
    status = run(
        weights, photos, "-r", "--output", out, "--json", out / "a.json", "--csv", out / "a.csv",
        "--max-detections", 4,
    )  # fmt: skip
    assert status == 0
    captured = capsys.readouterr()
    assert "3 images, 12 detections" in captured.out
    assert captured.err == ""
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["a.csv", "a.images.json", "a.json", "a/x.jpg", "b/x.jpg", "b/y.png"]
    entries = json.loads((out / "a.json").read_text())
    predictor = Predictor.from_checkpoint(weights, device="cpu", max_detections=4)
    found = predictor(read_image(photos / "b" / "y.png"))
    of_y = [entry for entry in entries if entry["image_id"] == 2]
    assert [entry["file_name"] for entry in of_y] == [str(photos / "b" / "y.png")] * 4
    corners = torch.tensor([entry["bbox"] for entry in of_y])
    corners[:, 2:] += corners[:, :2]
    torch.testing.assert_close(corners, found.pred_boxes.tensor, rtol=0, atol=1e-3)
    assert [entry["category_id"] for entry in of_y] == found.pred_classes.tolist()
    with open(out / "a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[8]["file"] == str(photos / "b" / "y.png")
    assert rows[8]["class_name"] == CLASS_NAMES[int(rows[8]["class_id"])]
    assert float(rows[8]["score"]) == pytest.approx(found.scores[0].item(), abs=1e-5)
    assert rows[8]["frame"] == ""
    assert rows[8]["annotated"] == str(out / "b" / "y.png")
    # Small images are enlarged, and something is drawn.
    drawn = np.asarray(Image.open(out / "b" / "y.png")).astype(int)
    assert drawn.shape == (450, 300, 3)
    plain = np.asarray(Image.open(photos / "b" / "y.png").resize((300, 450))).astype(int)
    assert (np.abs(drawn - plain).max(-1) > 60).mean() > 0.01


def test_inputs_are_never_overwritten(weights, photos, capsys):
    before = (photos / "b" / "x.jpg").read_bytes()
    assert run(weights, photos / "b", "--output", photos / "b") == 0
    assert (photos / "b" / "x.jpg").read_bytes() == before
    assert (photos / "b" / "x_2.jpg").exists()
    for option in ("--json", "--csv"):
        assert run(weights, photos / "b", option, photos / "b" / "x.jpg") == 2
        assert run(weights, photos / "b", option, weights) == 2
    assert run(weights, photos, "--json", photos / "r", "--csv", photos / "r") == 2
    assert run(weights, photos / "a", "--output", photos / "a" / "x.jpg") == 2
    assert capsys.readouterr().err.count("smca-predict: --") == 6
    assert (photos / "b" / "x.jpg").read_bytes() == before


def test_a_second_run_does_not_predict_its_own_pictures(weights, photos, capsys):
    for _ in range(2):
        assert run(weights, photos, "-r", "--output", photos / "out") == 0
        assert "3 images" in capsys.readouterr().out


def test_without_an_output_it_prints(weights, photos, capsys):
    assert run(weights, photos / "a" / "x.jpg", "--max-detections", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{photos / 'a' / 'x.jpg'}: 1 found"
    assert lines[1].split()[0] in CLASS_NAMES


@pytest.mark.parametrize(
    ("names", "status", "sentence"),
    [
        (["a/x.jpg", "gone.jpg"], 1, "gone.jpg: there is no such file"),
        (["gone.jpg"], 2, "gone.jpg: there is no such file"),
        (["a", "*.tif"], 1, "*.tif: no file matches"),
        (["."], 2, "the folder has no images or videos"),
        (["a/x.jpg", "gone.mp4"], 1, "gone.mp4: there is no such file"),
    ],
)
def test_the_status_tells(weights, photos, capsys, names, status, sentence):
    assert run(weights, *(photos / name for name in names)) == status
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert captured.err.count("smca-predict: ") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--weights", "gone.pth"], "gone.pth does not exist"),
        (["--config-file", "smca_r51"], "no config named 'smca_r51'"),
        (["--config-file", "gone.py"], "config file 'gone.py' does not exist"),
        (["--threshold", "2"], "threshold is 2.0"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--max-detections", "-3"], "--max-detections is -3, it must be at least 1"),
        (["--camera", "-1"], "--camera is -1, it must be from 0 to 99"),
        (["--camera", str(2**40)], "it must be from 0 to 99"),
        (["--device", "mps"], "device=mps, but PyTorch sees no such device"),
        (["--max-frames", "0"], "--max-frames is 0"),
        (["--weights", ""], "--weights is empty"),
        (["--json", ""], "--json is empty"),
        (["--output", ""], "--output is empty"),
        (["--json", "n" * 300], "nnn: it cannot be written (File name too long)"),
        (
            ["--json", "n" * 248 + ".json"],
            ".images.json: it cannot be written (File name too long)",
        ),
        (["--csv", "n" * 300], "nnn: it cannot be written (File name too long)"),
        (["--device", "cuda:77"], "device=cuda:77, but PyTorch sees"),
        (["--coco-json", "x.json"], "--coco-json has an effect on --json only"),
        (["--coco-json", "gone.json", "--json", "r.json"], "gone.json cannot be read"),
    ],
)
def test_bad_arguments(weights, photos, tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    assert run(weights, photos / "a", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("smca-predict: ")
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [photos]


def test_the_model_is_compiled_where_it_is_asked_for(weights, photos, monkeypatch, capsys):
    compiled = []
    monkeypatch.setattr("smca.inference.predictor.compile_parts", compiled.append)
    assert run(weights, photos / "a") == 0
    assert (compiled, "the model is compiled" in capsys.readouterr().out) == ([], False)
    assert run(weights, photos / "a", "--compile") == 0
    assert (len(compiled), "the model is compiled" in capsys.readouterr().out) == (1, True)


def test_freed_memory_is_kept(weights, photos, monkeypatch):
    called = []
    monkeypatch.setattr(command, "keep_freed_memory", lambda: called.append(True))
    assert run(weights, photos / "a") == 0
    assert called == [True]


def test_a_fault_of_code_keeps_its_traceback(weights, photos, monkeypatch):
    def make_predictor(args):
        raise ValueError("a fault of code")

    monkeypatch.setattr(command, "_make_predictor", make_predictor)
    with pytest.raises(ValueError, match="a fault of code"):
        run(weights, photos)


def test_coco_ids(weights, photos, tmp_path, capsys):
    annotations = tmp_path / "annotations.json"
    categories = [
        {"id": i, "name": n} for i, n in zip((5, 2, 9), ("dog", "cat", "bird"), strict=True)
    ]
    images = [
        {"id": 70, "file_name": "a/x.jpg", "height": 60, "width": 90},
        {"id": 80, "file_name": "b/x.jpg", "height": 60, "width": 90},
    ]
    content = {"images": images, "categories": categories, "annotations": []}
    annotations.write_text(json.dumps(content))
    target = tmp_path / "results.json"
    assert run(weights, photos, "-r", "--json", target, "--coco-json", annotations) == 1
    assert f"y.png: {annotations} has no image of that name" in capsys.readouterr().err
    entries = json.loads(target.read_text())
    assert {entry["image_id"] for entry in entries} == {70, 80}
    assert {entry["category_id"] for entry in entries} == {2, 5, 9}
    assert set(entries[0]) == {"image_id", "category_id", "bbox", "score"}
    assert len(COCO(str(annotations)).loadRes(str(target)).anns) == len(entries)
    categories[0]["name"] = "horse"
    annotations.write_text(json.dumps(content))
    assert run(weights, photos, "--json", target, "--coco-json", annotations) == 2
    assert "such as 'horse' instead of 'dog'" in capsys.readouterr().err


def test_the_command_line_says_what_the_predictor_takes():
    """Written twice, since the command line is read without PyTorch."""
    actions = {action.dest: action for action in build_parser()._actions}
    assert actions["precision"].choices == tuple(PRECISIONS)
    assert actions["max_pixels"].default == MAX_PIXELS


def test_annotations_that_are_nested_too_deeply(weights, photos, tmp_path, capsys):
    annotations = tmp_path / "deep.json"
    annotations.write_text("[" * 100_000)
    assert run(weights, photos, "--json", tmp_path / "r.json", "--coco-json", annotations) == 2
    assert capsys.readouterr().err == (
        f"smca-predict: {annotations} is no COCO json: it is nested too deeply\n"
    )


def test_long_names_and_links_in_circles(weights, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.fromarray(picture()).save(photos / ("a" * 250 + ".jpg"))
    Image.fromarray(picture()).save(photos / ("b" * 250 + ".ppm"))
    (photos / "loop.jpg").symlink_to("loop.jpg")
    long = tmp_path / ("c" * 250 + ".csv")
    assert run(weights, photos, photos / "loop.jpg", "--output", out, "--csv", long) == 1
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert f"{photos / 'loop.jpg'}: " in captured.err
    assert sorted(path.name[0] for path in out.iterdir()) == ["a", "b"]
    assert long.is_file()


def test_weights_by_url(weights, photos, tmp_path, monkeypatch, capsys):
    """From a server of this machine."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=Path(weights).parent
    )
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert run(f"{url}/tiny.pth", photos / "a" / "x.jpg") == 0
        assert "x.jpg: 21 found" in capsys.readouterr().out
        assert run(f"{url}/gone.pth", photos / "a" / "x.jpg") == 2
        server.shutdown()
    assert f"{url}/gone.pth cannot be fetched (" in capsys.readouterr().err


def test_after_an_interruption_the_files_are_whole(weights, photos, tmp_path, monkeypatch, capsys):
    real = prediction_run.read_image

    def interrupted(path, **options):
        if path.name == "y.png":
            raise KeyboardInterrupt
        return real(path, **options)

    monkeypatch.setattr(prediction_run, "read_image", interrupted)
    monkeypatch.setattr("smca.inference.predictor._usable_processors", lambda: 1)
    monkeypatch.setattr(Predictor, "_batch_size_of", lambda self, pending: 1)
    target, lines = tmp_path / "r.json", tmp_path / "r.csv"
    assert (
        run(weights, photos, "-r", "--json", target, "--csv", lines, "--max-detections", 3) == 130
    )
    assert len(json.loads(target.read_text())) == 6
    assert len(lines.read_text().splitlines()) == 7
    assert not list(tmp_path.glob("*.part"))


def test_ctrl_c_ends_a_real_process_in_order(weights, tmp_path):
    for number in range(400):
        cv2.imwrite(str(tmp_path / f"{number:04d}.png"), picture()[..., ::-1])
    target = tmp_path / "r.json"
    process = subprocess.Popen(
        [*RUN, "--weights", weights, "--device", "cpu", "--threshold", "0", "--batch-size", "1",
         "--output", str(tmp_path / "out"), "--json", str(target), str(tmp_path)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/*.png")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors
    done = {entry["image_id"] for entry in json.loads(target.read_text())}
    assert done
    assert done == set(range(len(done)))
    assert len(done) < 400
    for path in tmp_path.glob("out/*.png"):
        Image.open(path).load()


def test_file_names_that_are_no_text(weights, photos, tmp_path, capsys):
    name = os.fsdecode(b"caf\xe9 \n.jpg")
    os.rename(photos / "a" / "x.jpg", photos / "a" / name)
    lines = tmp_path / "r.csv"
    out = tmp_path / "out"
    assert run(weights, photos / "a", "--csv", lines, "--output", out) == 0
    # A table is text: the name has the form that messages have. Json has it as it is.
    assert r"caf\udce9 \n.jpg" in lines.read_text()
    assert [path.name for path in out.iterdir()] == [name]
    (photos / "a" / name).write_bytes(b"")
    assert run(weights, photos / "a") == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert r"caf\udce9 \n.jpg: it is empty" in error


@pytest.mark.parametrize("ids", [(11, 3, 40), ("a", "b", "c")])
def test_category_ids_of_the_checkpoint(photos, tmp_path, ids):
    """Other numbers in --json only, and those of an annotation file count before them."""
    weights = str(tiny_checkpoint(tmp_path / "ids.pth", class_ids=ids))
    torch.manual_seed(0)
    plain = str(tiny_checkpoint(tmp_path / "plain.pth"))
    found = {}
    for name, file in (("ids", weights), ("plain", plain)):
        results = tmp_path / f"{name}.json"
        options = ["--json", results, "--csv", tmp_path / f"{name}.csv", "-r"]
        assert run(file, photos, *options) == 0
        found[name] = json.loads(results.read_text())
    classes = [entry.pop("category_id") for entry in found["plain"]]
    assert len(set(classes)) > 1
    assert [entry.pop("category_id") for entry in found["ids"]] == [ids[k] for k in classes]
    assert found["ids"] == found["plain"]
    assert (tmp_path / "ids.csv").read_text() == (tmp_path / "plain.csv").read_text()
    images = json.loads((tmp_path / "ids.images.json").read_text())
    assert images["categories"] == [
        {"id": number, "name": name} for number, name in zip(ids, CLASS_NAMES, strict=True)
    ]
    truth = tmp_path / "truth.json"
    categories = [{"id": k, "name": name} for k, name in enumerate(CLASS_NAMES, start=5)]
    names = [{"id": 1, "file_name": "b/y.png", "width": 60, "height": 90}]
    truth.write_text(json.dumps({"images": names, "categories": categories, "annotations": []}))
    other = tmp_path / "other.json"
    assert run(weights, photos / "b" / "y.png", "--json", other, "--coco-json", truth) == 0
    assert {entry["category_id"] for entry in json.loads(other.read_text())} <= {5, 6, 7}
