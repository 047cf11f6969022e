import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from smca.engine import set_earlier_run_aside

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "tools" / "demo.py"
# The demo as a user starts it, but with a data set that is made in no time.
PREPARED = """
import runpy, sys, warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from smca.data import DigitsSpec, register_digits
register_digits(sys.argv[1], spec=DigitsSpec(train_images=16, val_images=7))
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
SHORT = [
    "train.max_iter=2",
    "train.evaluation.period=0",
    "train.log_period=1",
    "dataloader.train.total_batch_size=2",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
]


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("smca_demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The process of a short demo and the directory that it left."""
    root = tmp_path_factory.mktemp("demo")
    output = root / "output" / "demo"
    command = [sys.executable, "-c", PREPARED, str(root), str(DEMO)]
    process = subprocess.run(
        [*command, "--output-dir", str(output), *SHORT],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.returncode == 0, process.stderr
    return process, output


def test_leaves_all_that_it_promises(finished):
    process, output = finished
    assert torch.load(output / "model_final.pth", weights_only=False)["iteration"] == 1
    assert "optimizer" not in torch.load(output / "model_best.pth", weights_only=False)
    last = json.loads((output / "metrics.json").read_text().splitlines()[-1])
    assert last["iteration"] == 1
    assert 0 <= last["bbox/AP"] <= 100
    pictures = sorted((output / "predictions").iterdir())
    assert len(pictures) == 6
    for path in (*pictures, output / "prior.png", output / "convergence.png"):
        assert cv2.imread(str(path)).std() > 5, path
    listed = process.stdout.partition(f"In {output}/:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) >= 7
    for line in listed:
        assert (output / line.split()[0]).exists(), line


def test_says_what_it_did(finished):
    process, output = finished
    lines = process.stdout.splitlines()
    assert "Done: trained digits/smca_single_scale for 2 iterations and evaluated it on" in (
        process.stdout
    )
    for stage in ("data set and checks", "training with evaluations", "prediction and pictures"):
        assert any(line.startswith(stage) and line.endswith(" s") for line in lines)
    headers = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    assert ["AP", "AP50", "AP75", "APs", "APm"] in headers
    assert list("0123456789") in headers
    assert f"In {output}/:" in lines
    assert lines[-1].strip().startswith(".venv/bin/python train_net.py --config-file configs/")
    assert (ROOT / lines[-1].split()[-1]).is_file()


def test_the_terminal_shows_progress_and_the_log_all(finished):
    process, output = finished
    progress = [line for line in process.stdout.splitlines() if "total_loss" in line]
    assert len(progress) == 2
    assert progress[0].startswith("eta: ")
    assert "loss_giou" not in process.stdout
    assert "Environment info" not in process.stdout
    assert "Warning" not in process.stderr
    log = (output / "log.txt").read_text()
    assert "Environment info" in log
    assert "loss_giou" in log


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train.max_itr=3"], "there is no field train.max_itr; the nearest is train.max_iter"),
        (["dataloader.train.dataset.names=nowhere"], "data set 'nowhere' is not registered"),
    ],
)
def test_bad_input_is_one_sentence(demo, arguments, sentence, tmp_path):
    output = tmp_path / "demo"
    with pytest.raises(SystemExit) as stopped:
        demo.main(["--output-dir", str(output), *arguments])
    assert stopped.value.code.startswith("demo: ")
    assert sentence in stopped.value.code
    assert "\n" not in stopped.value.code
    assert not output.exists()


def fill(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_a_run_that_was_cut_off_is_gone_on_with(demo, tmp_path):
    assert not demo.is_unfinished(tmp_path)
    fill(tmp_path, "metrics.json")
    assert not demo.is_unfinished(tmp_path)
    fill(tmp_path, "last_checkpoint", "model_0000249.pth")
    assert demo.is_unfinished(tmp_path)
    # Training was over, the pictures were not.
    fill(tmp_path, "model_final.pth", "predictions/000001.png")
    assert demo.is_unfinished(tmp_path)
    fill(tmp_path, "prior.png")
    assert not demo.is_unfinished(tmp_path)


def test_a_finished_run_is_set_aside_with_its_pictures(demo, tmp_path):
    names = ["model_final.pth", "prior.png", "predictions/000001.png"]
    fill(tmp_path, *names)
    demo.move_pictures(tmp_path, None)
    assert (tmp_path / "prior.png").is_file()
    aside = set_earlier_run_aside(str(tmp_path))
    demo.move_pictures(tmp_path, aside)
    assert [p.name for p in tmp_path.iterdir()] == ["earlier_run_1"]
    for name in names:
        assert (aside / name).read_text() == name
    demo.move_pictures(tmp_path, aside)


def test_images_are_spread_over_those_with_objects(demo):
    records = [{"id": i, "annotations": [{}] * (i % 2)} for i in range(100)]
    assert [r["id"] for r in demo.choose_images(records)] == [1, 17, 33, 51, 67, 83]
    assert [r["id"] for r in demo.choose_images(records[:4])] == [1, 3]
    assert demo.choose_images(records[:1]) == []


def record(name, level, message="text"):
    return logging.LogRecord(name, level, __file__, 1, message, (), None)


def test_what_is_shown(demo):
    assert demo.is_shown(record("detectron2.utils.events", logging.INFO))
    assert demo.is_shown(record("smca.engine", logging.INFO))
    assert demo.is_shown(record("fvcore.common.checkpoint", logging.WARNING))
    assert not demo.is_shown(record("fvcore.common.checkpoint", logging.INFO))
    assert not demo.is_shown(record("detectron2.engine.train_loop", logging.ERROR))


def test_a_line_of_progress_is_brief(demo):
    line = (
        " eta: 0:05:42  iter: 499  total_loss: 6.015  loss_ce_0: 0.85  loss_giou: 0.65  "
        "time: 0.3787  data_time: 0.0150  lr: 0.0004  "
    )
    brief = demo.BriefFormatter("%(message)s").format(record("x", logging.INFO, line))
    assert brief == "eta: 0:05:42  iter: 499  total_loss: 6.015  time: 0.3787  lr: 0.0004"


def test_a_number_that_could_not_be_measured(demo):
    assert demo.show(float("nan")) == "-"
    assert demo.show(59.46) == "59.5"


def test_commands_are_those_of_the_environment_that_runs(demo, tmp_path, monkeypatch):
    programs = tmp_path / "env" / "bin"
    programs.mkdir(parents=True)
    for name in ("python3", "smca-predict"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(demo.sys, "executable", str(programs / "python3"))
    monkeypatch.setenv("PATH", "/nowhere")
    call = ("smca-predict", "predict.py")
    assert demo.command(*call) == f"{programs}/smca-predict"
    monkeypatch.chdir(tmp_path)
    assert demo.command(*call) == "env/bin/smca-predict"
    assert demo.command("smca-publish", "publish.py") == "env/bin/python3 tools/publish.py"
    # An environment that is activated.
    monkeypatch.setenv("PATH", str(programs))
    assert demo.command(*call) == "smca-predict"
    assert demo.as_typed(demo.sys.executable) == "python3"


def test_what_to_do_next_can_be_typed(finished):
    process, _ = finished
    (publish,) = [
        line.strip() for line in process.stdout.splitlines() if " --name digits_demo" in line
    ]
    program = publish.split()[0]
    assert (
        shutil.which(program, path=os.environ["PATH"])
        or Path(program).is_file()
        or "python" in program
    )


@pytest.mark.parametrize("override", ["train.output_dir=null", "train.seed=abc"])
def test_settings_are_checked_first(demo, override, tmp_path):
    with pytest.raises(SystemExit, match=f"demo: {override.partition('=')[0]}=.* must be"):
        demo.main(["--output-dir", str(tmp_path / "demo"), override])
    assert not (tmp_path / "demo").exists()
