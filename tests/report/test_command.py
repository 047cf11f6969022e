"""The report at the end of a training, and that of the command, which predicts again."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

from helpers.builders import ROOT
from helpers.custom_data import TINY_MODEL, data_overrides, write_data_set
from helpers.logs import logging_as_before
from smca.engine.driver import run_process
from smca.report import after_training, report_training
from smca.report.command import main

CONFIG = str(ROOT / "configs" / "digits" / "custom_coco.py")


def train(folder, data, *overrides):
    arguments = [
        "--config-file",
        CONFIG,
        *TINY_MODEL,
        *data_overrides(data, data),
        f"train.output_dir={folder}",
        *overrides,
    ]
    with logging_as_before():
        run_process(default_argument_parser().parse_args(arguments), report_training)


def forget():
    for name in ("custom_train", "custom_val"):
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.fixture(autouse=True)
def _catalogs_as_before():
    yield
    forget()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data_set(tmp_path_factory.mktemp("pets"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """A training that is over, not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "pets"
    train(folder, data, "train.max_iter=2")
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / finished.name)


def text(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>|\s+", " ", page.read_text(encoding="utf-8")))


def figures(page: Path) -> str:
    """Everything from the numbers to the last line, pictures included."""
    whole = page.read_text(encoding="utf-8")
    return whole[whole.index('id="numbers"') :]


def test_a_training_leaves_a_report_and_the_command_makes_the_same(run, capsys):
    page = run / "report.html"
    at_the_end = figures(page)
    last = json.loads((run / "metrics.json").read_text().splitlines()[-1])
    assert last["bbox/AP50"] > 0
    shown = " ".join(text(page).split())
    assert all(f"{name} {last[f'bbox/{name}']:.1f}" in shown for name in ("AP", "AP50", "AP75"))
    assert "trained 2 iterations (1.33 epochs)" in shown
    assert "Where it looked" in shown
    assert "Report: " in (run / "log.txt").read_text()
    page.unlink()
    assert main([str(run), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(page)
    assert figures(page) == at_the_end


def test_averaged_weights_are_those_that_count(tmp_path, data):
    """At the end and later; the raw weights have learned something else by then."""
    folder = tmp_path / "run"
    train(folder, data, "train.max_iter=3", "train.ema.enabled=True", "optimizer.lr=0.05")
    page, last = (
        folder / "report.html",
        json.loads((folder / "metrics.json").read_text().splitlines()[-1]),
    )
    assert last["bbox_ema/AP"] != last["bbox/AP"]
    shown = f"AP {last['bbox_ema/AP']:.1f}"
    assert shown in " ".join(text(page).split())
    page.unlink()
    assert main([str(folder), "--device", "cpu"]) == 0
    assert shown in " ".join(text(page).split())
    assert "The training itself measured" not in text(page)


def test_a_report_that_fails_is_told_and_the_training_is_complete(tmp_path, data, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("of the report")

    monkeypatch.setattr(after_training, "write_report", fail)
    train(tmp_path / "run", data)
    assert (tmp_path / "run" / "model_final.pth").is_file()
    assert not (tmp_path / "run" / "report.html").exists()
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "The report could not be written; the training is complete" in log
    assert "ZeroDivisionError: of the report" in log


def test_it_can_be_turned_off_and_an_earlier_one_moves_with_its_run(run, data):
    train(run, data, "train.report=False")
    assert not (run / "report.html").exists()
    assert (run / "earlier_run_1" / "report.html").is_file()


def test_a_setting_that_is_none_is_refused(tmp_path, data):
    with pytest.raises(SystemExit, match=r"train\.report='perhaps' must be True or False"):
        train(tmp_path / "run", data, "train.report=perhaps")


def test_an_evaluator_that_is_not_ours(tmp_path, data):
    train(tmp_path / "run", data, "dataloader.evaluator=null")
    assert "There is no evaluation" in text(tmp_path / "run" / "report.html")


def test_a_resumed_training_with_nothing_to_do_leaves_the_report(run, data):
    (run / "report.html").write_text("before")
    config = (run / "config.yaml").read_text()
    assert "  report: true\n" in config
    # As version 0.1 left it, without the field.
    (run / "config.yaml").write_text(config.replace("  report: true\n", ""))
    arguments = ["--resume", "--config-file", str(run / "config.yaml")]
    arguments += [f"train.output_dir={run}"]
    with logging_as_before():
        run_process(default_argument_parser().parse_args(arguments), report_training)
    assert (run / "report.html").read_text() == "before"


def test_a_checkpoint_and_a_data_set(run, data, tmp_path, monkeypatch):
    """By the checkpoint's own description, on a json that nobody has registered."""
    monkeypatch.chdir(tmp_path)
    lone = tmp_path / "lone.pth"
    (run / "model_final.pth").rename(lone)
    json_file, images = data
    arguments = [str(lone), "--dataset", str(json_file), "--images", str(images), "--device", "cpu"]
    assert main(arguments) == 0
    last = json.loads((run / "metrics.json").read_text().splitlines()[-1])
    shown = " ".join(text(tmp_path / "report.html").split())
    assert f"AP {last['bbox/AP']:.1f}" in shown
    assert "3 images, 3 objects of 3 classes" in shown


def test_a_data_set_of_other_classes_is_refused(run, data, tmp_path, capsys):
    content = json.loads(data[0].read_text())
    content["categories"][0]["name"] = "ostrich"
    other = tmp_path / "other.json"
    other.write_text(json.dumps(content))
    arguments = ["--dataset", str(other), "--images", str(data[1]), "--output", str(tmp_path / "p")]
    assert main([str(run / "model_final.pth"), *arguments]) == 1
    assert "have different classes: only the first has 'emu'" in capsys.readouterr().err


def test_runs_of_one_name_are_called_by_their_path(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other" / run.name)
    page = tmp_path / "page.html"
    assert main([str(run), str(other), "--no-predictions", "--output", str(page)]) == 0
    assert f"Report: {run}, {other}" in text(page)


def test_what_a_run_lacks_is_said_on_its_page(run, capsys):
    for path in run.glob("*.pth"):
        path.unlink()
    assert main([str(run)]) == 0
    sentence = f"There is no evaluation: {run} has no checkpoint yet."
    assert sentence in text(run / "report.html")
    assert sentence in capsys.readouterr().err
    assert main([str(run), "--no-predictions"]) == 0
    assert "--no-predictions" in text(run / "report.html")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{empty}"], "{empty} is no output directory of a training"),
        (["{run}", "--threshold", "2"], "--threshold is 2, it must be between 0 and 1"),
        (["{run}", "--worst", "-1"], "--worst is -1, it must be 0 or more"),
        (["{run}", "--output", "{empty}"], "--output {empty} is a folder"),
        (["{run}", "--output", "{empty}/no/page.html"], "there is no folder {empty}/no"),
        (["{run}", "--images", "{empty}"], "--images goes with --dataset"),
        (["{run}", "--dataset", "nowhere"], "--dataset nowhere: there is no such file or folder"),
        (["{run}", "--import", "no_such_module"], "--import no_such_module: "),
        (["{empty}/no.pth"], "no.pth"),
        (["{run}/model_final.pth"], "does not say what to evaluate it on"),
        (["{run}/model_final.pth", "--no-predictions"], "nothing can be said without predictions"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, tmp_path, capsys, arguments, said):
    places = {"empty": tmp_path / "empty", "run": run}
    places["empty"].mkdir()
    before = (run / "report.html").read_bytes()
    assert main([argument.format(**places) for argument in arguments]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("smca-report: ")
    assert said.format(**places) in error
    assert (run / "report.html").read_bytes() == before
