"""From a training's checkpoint to a file that needs nothing else."""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor

from helpers.builders import ROOT, draw_parameters
from smca import model_zoo
from smca.checkpoint import (
    ModelInfo,
    build_model_from_info,
    load_initial_weights,
    model_info_from_lazy,
    read_model_file,
)
from smca.model_zoo import index as index_module
from smca.model_zoo.convert_file import convert_file
from smca.model_zoo.index import read_index
from smca.model_zoo.publish import logged_metrics, metrics_of, public_name

NAME = "digits/smca_single_scale"
DIGITS = tuple("0123456789")
FORMATS = ("pth", "safetensors", "pkl")


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location(
        "publish_checkpoint_tool", ROOT / "tools" / "publish_checkpoint.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(autouse=True)
def _nothing_added(monkeypatch):
    monkeypatch.setattr(index_module, "_added", [])
    monkeypatch.delenv("SMCA_ZOO_INDEX", raising=False)


@pytest.fixture(scope="module")
def models():
    """What was trained, and the moving averages of it."""
    return [draw_parameters(model_zoo.get(NAME), seed=seed) for seed in (0, 1)]


@pytest.fixture(scope="module")
def run(models, tmp_path_factory) -> Path:
    """The directory of a training."""
    root = tmp_path_factory.mktemp("run")
    weights, averages = (model.state_dict() for model in models)
    info = model_info_from_lazy(
        model_zoo.get_config(NAME),
        config_name="/home/someone/configs/digits/smca_single_scale.py",
        class_names=DIGITS,
        class_ids=range(1, 11),
    )
    training = {
        "model": weights,
        "ema": {"model": averages, "updates": 3},
        "trainer": {"optimizer": {"state": {0: torch.zeros(100)}}},
        "iteration": 9,
        "smca": info.to_json(),
    }
    torch.save(training, root / "model_final.pth")
    lines = [
        {"iteration": 4, "bbox/AP": 1.0, "bbox_ema/AP": 2.0},
        {"iteration": 5, "total_loss": 3.0},
        {"iteration": 9, "bbox/AP": 40.00049, "bbox/APl": float("nan"), "bbox_ema/AP": 50.0},
    ]
    text = "\n".join(map(json.dumps, lines)) + '\n{"iteration": 9, "bb'
    (root / "metrics.json").write_text(text)
    return root


def assert_equal_tensors(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def publish(main, capsys, *arguments) -> tuple[str, dict]:
    assert main([str(argument) for argument in arguments]) == 0
    ((name, entry),) = json.loads(capsys.readouterr().out).items()
    return name, entry


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_in_a_file(kind, main, run, models, tmp_path, capsys):
    name, entry = publish(main, capsys, run, "--output-dir", tmp_path, "--formats", kind)
    (path,) = tmp_path.iterdir()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert name == entry["config"] == NAME
    assert path.name == entry["url"] == f"digits_smca_single_scale_{digest[:8]}.{kind}"
    assert (entry["sha256"], entry["size"]) == (digest, path.stat().st_size)
    assert entry["metrics"] == {"bbox/AP": 50.0}

    file = read_model_file(path)
    assert_equal_tensors(file.state_dict, models[1].state_dict())
    assert file.ema is None
    assert file.info.class_names == DIGITS
    assert file.info.class_ids == tuple(range(1, 11))
    assert file.info.config_name == NAME
    assert file.info.metrics == {"bbox/AP": 50.0}
    assert set(file.info.versions) == {"smca", "torch", "detectron2"}
    assert file.info.model["input_format"] == "RGB"
    assert (file.info.min_size_test, file.info.max_size_test) == (128, 128)
    assert b"someone" not in path.read_bytes()

    model = build_model_from_info(file.info)
    model.load_state_dict(file.state_dict)


def test_the_weights_themselves(main, run, models, tmp_path, capsys):
    _, entry = publish(main, capsys, run, "--output-dir", tmp_path, "--raw")
    assert_equal_tensors(
        read_model_file(tmp_path / entry["url"]).state_dict, models[0].state_dict()
    )
    assert entry["metrics"] == {"bbox/AP": 40.0}


@pytest.mark.parametrize("kind", ["pth", "pkl"])
def test_detectron2s_checkpointer_takes_it_as_it_is(kind, main, run, models, tmp_path, capsys):
    _, entry = publish(main, capsys, run, "--output-dir", tmp_path, "--formats", kind)
    path = str(tmp_path / entry["url"])
    model = model_zoo.get(NAME)
    incompatible = []
    checkpointer = DetectionCheckpointer(model)
    checkpointer._log_incompatible_keys = incompatible.append
    checkpointer.load(path)
    assert_equal_tensors(model.state_dict(), models[1].state_dict())
    found = incompatible[0]
    assert found.missing_keys == found.unexpected_keys == found.incorrect_shapes == []

    cfg = model_zoo.get_cfg(NAME, weights=path)
    cfg.MODEL.DEVICE = "cpu"
    assert_equal_tensors(DefaultPredictor(cfg).model.state_dict(), models[1].state_dict())


def test_the_same_input_gives_the_same_files(main, run, tmp_path, capsys):
    """Also in another process, which hashes strings differently."""
    common = ["--formats", *FORMATS, "--output-dir"]
    publish(main, capsys, run, *common, tmp_path / "a")
    command = [
        sys.executable,
        ROOT / "tools" / "publish_checkpoint.py",
        run,
        *common,
        tmp_path / "b",
    ]
    subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": "1"}
    )
    here, there = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in "ab"
    )
    assert len(here) == 3
    assert here == there


def test_published_again_it_is_the_same_file(main, run, tmp_path, capsys):
    _, first = publish(main, capsys, run, "--output-dir", tmp_path / "a")
    path = tmp_path / "a" / first["url"]
    _, second = publish(
        main, capsys, path, "--output-dir", tmp_path / "b", "--metric", "bbox/AP=50"
    )
    assert second["sha256"] == first["sha256"]


def test_an_index_that_the_zoo_reads(main, run, models, tmp_path, capsys):
    index = tmp_path / "index.json"
    common = ("--output-dir", tmp_path / "files", "--index", index)
    name, entry = publish(
        main, capsys, run, *common, "--name", "team/digits", "--licence", "MIT",
        "--training-log", "https://example.org/log.txt", "--formats", "safetensors", "pth",
    )  # fmt: skip
    publish(main, capsys, run, *common, "--raw")
    assert set(read_index(index)) == {"team/digits", NAME}
    assert name == "team/digits"
    assert entry["url"] == f"files/team_digits_{entry['sha256'][:8]}.safetensors"
    assert (entry["licence"], entry["class_names"]) == ("MIT", "checkpoint")
    assert len(list((tmp_path / "files").iterdir())) == 3

    model_zoo.add_index(index)
    trained = model_zoo.get("team/digits", trained=True)
    assert_equal_tensors(trained.state_dict(), models[1].state_dict())
    fresh = model_zoo.get(NAME)
    load_initial_weights(fresh, "smca://team/digits", class_names=DIGITS, report=False)
    assert_equal_tensors(fresh.state_dict(), models[1].state_dict())
    # The name is one for the commands, too.
    _, again = publish(
        main, capsys, "smca://team/digits", "--output-dir", tmp_path, "--formats", "safetensors"
    )
    assert again["sha256"] == entry["sha256"]
    convert_file("smca://team/digits", tmp_path / "released.pth", to_released=True)
    released = read_model_file(tmp_path / "released.pth").state_dict
    assert len(released["class_embed.bias"]) == 10


def test_a_name_that_the_index_has(main, run, tmp_path, capsys):
    index = tmp_path / "index.json"
    common = [str(run), "--output-dir", str(tmp_path), "--index", str(index)]
    assert main(common) == main(common) == 0
    before = index.read_text()
    assert main([*common, "--raw"]) == 1
    assert "has 'digits/smca_single_scale' already" in capsys.readouterr().err
    assert index.read_text() == before
    assert main([*common, "--raw", "--force"]) == 0
    assert index.read_text() != before


def test_an_address(main, run, tmp_path, capsys):
    _, entry = publish(
        main, capsys, run, "--output-dir", tmp_path, "--url-prefix", "https://example.org/w/"
    )
    assert entry["url"].startswith("https://example.org/w/digits_smca_single_scale_")


def test_a_checkpoint_that_does_not_say_what_it_is(main, models, tmp_path, capsys):
    torch.save({"model": models[0].state_dict()}, tmp_path / "model_0000009.pth")
    arguments = [str(tmp_path / "model_0000009.pth"), "--output-dir", str(tmp_path / "out")]
    assert main(arguments) == 1
    assert "give its config (--config-file)" in capsys.readouterr().err
    for config in (NAME, str(ROOT / "configs" / f"{NAME}.py")):
        name, entry = publish(main, capsys, *arguments, "--config-file", config)
        assert name == entry["config"] == NAME
        info = read_model_file(tmp_path / "out" / entry["url"]).info
        assert info.class_names == DIGITS
    assert entry["metrics"] == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{run}/none.pth"], "none.pth does not exist"),
        (["{empty}"], "has no model_final.pth or model_best.pth"),
        (
            ["{run}", "--config-file", "digits/detr"],
            "is not published: its tensors are not those of this model: .*modulation",
        ),
        (["{run}", "--config-file", "digits/detrr"], "did you mean digits/detr"),
        (["{run}", "--config-file", "none.py"], "does not exist"),
        (["{run}", "--name", "../up"], "is no name"),
        (["{run}", "--config-file", NAME, "model.wrong=1"], "wrong"),
        (["{foreign}"], "its config names 'os.system'"),
        (["{html}"], "web page"),
    ],
)
def test_one_sentence(arguments, words, main, run, models, tmp_path, capsys):
    foreign = ModelInfo(model={"_target_": "os.system", "command": f"touch {tmp_path}/canary"})
    torch.save(
        {"model": models[0].state_dict(), "smca": foreign.to_json()}, tmp_path / "foreign.pth"
    )
    (tmp_path / "w.pth").write_text("<html></html>")
    (tmp_path / "empty").mkdir()
    places = {"run": run, "empty": tmp_path / "empty", "foreign": tmp_path / "foreign.pth",
              "html": tmp_path / "w.pth"}  # fmt: skip
    out = tmp_path / "out"
    filled = [argument.format(**places) for argument in arguments]
    assert main([*filled, "--output-dir", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("smca-publish: ")
    assert printed.err.count("\n") == 1
    assert re.search(words, printed.err)
    assert printed.out == ""
    assert not out.exists()
    assert not (tmp_path / "canary").exists()


def test_metrics_of_a_checkpoint(run):
    assert logged_metrics(run / "model_0000004.pth") == {"bbox/AP": 1.0, "bbox_ema/AP": 2.0}
    assert logged_metrics(run / "model_0000005.pth") == {}
    assert logged_metrics(run / "other.pth") == {}
    assert logged_metrics(run / "model_final.pth")["bbox_ema/AP"] == 50.0
    assert metrics_of({"bbox/AP": 1.0}, moving_averages=True) == {}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("digits/detr", "digits/detr"),
        ("configs/digits/detr.py", "digits/detr"),
        ("/home/me/repo/configs/digits/detr.py", "digits/detr"),
        ("/home/me/secret/forklifts.py", "forklifts"),
        ("", ""),
    ],
)
def test_no_folders_in_names(config, name):
    assert public_name(config) == name


def test_an_argument_that_would_have_no_effect_is_refused(main, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(run), "published", "--name", "mine"]) == 1
    assert "published: without --config-file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
