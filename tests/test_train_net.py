"""train_net.py from the command line's arguments on, on a tiny data set and with a tiny model."""

import copy
import errno
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import default_argument_parser

from helpers.custom_data import TINY_MODEL, data_overrides, pets, write_data_set
from helpers.logs import logging_as_before
from helpers.scripts import load_train_net
from smca.data import CLASSES, DigitsSpec, register_digits
from smca.engine import driver, run_command
from smca.engine.driver import run_process

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs" / "digits" / "smca_single_scale.py")
SMALL = [
    "model.backbone.depth=18",
    "model.backbone.out_features=[res4]",
    "model.neck.strides=[16]",
    "model.backbone.stem_channels=16",
    "model.neck.embed_dim=32",
    "model.encoder.blocks=Intra",
    "model.encoder.ffn_dim=64",
    "model.decoder.num_layers=2",
    "model.decoder.num_queries=10",
    "dataloader.train.total_batch_size=5",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "lr_multiplier.warmup_iterations=2",
    "lr_multiplier.drop_epochs=[0.8]",
    "train.device=cpu",
    "train.max_iter=6",
    "train.log_period=1",
    "train.checkpointer.period=3",
    "train.checkpointer.max_to_keep=null",
    "train.evaluation.period=3",
]
TWELVE = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


@pytest.fixture(scope="module", autouse=True)
def digits(tmp_path_factory):
    """24 images are no multiple of the batch size, so an epoch ends within a batch."""
    register_digits(
        tmp_path_factory.mktemp("datasets"), spec=DigitsSpec(train_images=24, val_images=6)
    )
    yield
    register_digits()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads cost more than they gain on tensors as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def train_net():
    return load_train_net()


@pytest.fixture(scope="module")
def run():
    def call(output_dir, *overrides, flags=(), config=CONFIG):
        overrides = [*SMALL, f"train.output_dir={output_dir}", *overrides]
        arguments = ["--config-file", config, *flags, *overrides]
        with logging_as_before():
            run_process(default_argument_parser().parse_args(arguments))

    return call


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """A whole training of six iterations, not to be changed."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(folder)
    return folder


def weights(folder, name="model_final.pth"):
    return torch.load(Path(folder) / name, weights_only=True)["model"]


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def metrics(folder) -> dict[int, dict]:
    lines = [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]
    by_iteration = {line["iteration"]: line for line in lines}
    assert len(by_iteration) == len(lines)
    return by_iteration


def repeatable(line: dict) -> dict:
    """What another run gives again, NaN too. Losses are medians over what one process has seen."""
    exact = {k for k in line if k.startswith("bbox/")} | {"lr", "epoch", "iteration"}
    return {k: repr(v) for k, v in line.items() if k in exact}


def files(folder) -> dict[str, bytes]:
    folder = Path(folder)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def interrupted(finished, folder):
    """What a process leaves that is killed after its checkpoint of iteration 2."""
    shutil.copytree(finished, folder)
    for path in folder.glob("model_*.pth"):
        if path.name not in ("model_0000002.pth", "model_best.pth"):
            path.unlink()
    (folder / "last_checkpoint").write_text("model_0000002.pth")
    lines = (folder / "metrics.json").read_text().splitlines(keepends=True)
    (folder / "metrics.json").write_text("".join(lines[:3]))
    return folder


def test_what_a_training_leaves(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "config.yaml", "log.txt", "metrics.json", "convergence.png", "last_checkpoint",
        "model_0000002.pth", "checkpoints.json", "model_final.pth", "model_best.pth",
    } <= names  # fmt: skip
    assert len([name for name in names if name.startswith("events.out.tfevents")]) == 1
    assert not [name for name in names if name.endswith(".part") or "earlier_run" in name]
    assert (finished / "last_checkpoint").read_text() == "model_final.pth"
    assert (finished / "convergence.png").read_bytes().startswith(b"\x89PNG")
    assert LazyConfig.load(str(finished / "config.yaml")).train.max_iter == 6


def test_metrics_hold_every_number(finished):
    by_iteration = metrics(finished)
    assert list(by_iteration) == [0, 1, 2, 3, 4, 5]
    numbers = {f"bbox/{name}" for name in TWELVE} | {f"bbox/AP-{name}" for name in CLASSES}
    for iteration, line in by_iteration.items():
        assert {
            "total_loss",
            "loss_ce",
            "loss_bbox",
            "loss_giou",
            "loss_giou_0",
            "lr",
            "grad_norm",
        } <= set(line)
        assert {k for k in line if k.startswith("bbox/")} == (
            numbers if iteration in (2, 5) else set()
        )
    assert by_iteration[5]["epoch"] == pytest.approx(6 / (24 / 5))
    assert 0 <= by_iteration[5]["bbox/AP"] <= 100


def test_the_rate_follows_the_schedule(finished):
    """Warm-up over two iterations, the drop at ceil(0.8 * 24 / 5) = 4."""
    rates = [line["lr"] for line in metrics(finished).values()]
    expected = [0.001, (0.001 + 1) / 2, 1, 1, 0.1, 0.1]
    assert [rate / rates[2] for rate in rates] == pytest.approx(expected)


def test_the_drop_moves_with_the_length(run, tmp_path):
    """A fifth of the training has the smaller rate, whether epochs or iterations say how long it is."""
    for name, length in (("a", "train.max_iter=5"), ("b", "train.epochs=1")):
        # The recipe's own, in place of what SMALL sets.
        run(tmp_path / name, "lr_multiplier.drop_epochs=null", "train.max_iter=null", length)
        rates = [line["lr"] for line in metrics(tmp_path / name).values()]
        assert len(rates) == 5
        assert [rate / rates[2] for rate in rates[2:]] == pytest.approx([1, 1, 0.1])


def test_tensorboard_has_the_evaluation(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished)).Reload()
    (first, last) = events.Scalars("bbox/AP")
    assert (first.step, last.step) == (2, 5)
    assert last.value == pytest.approx(metrics(finished)[5]["bbox/AP"])
    assert "bbox/AP-7" in events.Tags()["scalars"]


def test_the_weights_moved_and_the_best_are_one_of_the_evaluated(finished):
    first, final = weights(finished, "model_0000002.pth"), weights(finished)
    moved = [name for name in final if not torch.equal(first[name], final[name])]
    assert "heads.classifier.weight" in moved
    assert any(name.startswith("backbone.") for name in moved)
    values = [metrics(finished)[i]["bbox/AP"] for i in (2, 5)]
    best = final if values[1] > values[0] else first
    assert_same_weights(weights(finished, "model_best.pth"), best)


def test_the_same_command_again_gives_the_same_and_keeps_the_first(run, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run(folder, "dataloader.train.num_workers=2", "dataloader.test.num_workers=2")
    assert_same_weights(weights(folder), weights(finished))
    for iteration, line in metrics(finished).items():
        assert repeatable(metrics(folder)[iteration]) == repeatable(line)
        assert metrics(folder)[iteration]["total_loss"] == line["total_loss"]
    assert files(folder / "earlier_run_1") == files(finished)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_killed_training_resumes_bit_for_bit(run, finished, tmp_path, num_workers):
    folder = interrupted(finished, tmp_path / "run")
    run(folder, f"dataloader.train.num_workers={num_workers}", flags=["--resume"])
    assert_same_weights(weights(folder), weights(finished))
    assert not (folder / "earlier_run_1").exists()
    resumed, whole = metrics(folder), metrics(finished)
    assert list(resumed) == [0, 1, 2, 3, 4, 5]
    for iteration in (3, 4, 5):
        assert repeatable(resumed[iteration]) == repeatable(whole[iteration])
    # The first after the resume is a median of one.
    assert {"total_loss", "loss_giou", "grad_norm"} <= set(resumed[3])


def test_a_training_is_made_longer(run, finished, tmp_path):
    run(tmp_path, "train.max_iter=3")
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert_same_weights(weights(tmp_path), weights(finished, "model_0000002.pth"))
    run(tmp_path, flags=["--resume"])
    assert_same_weights(weights(tmp_path), weights(finished))


def test_resuming_a_finished_training_changes_nothing(run, finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run(folder, flags=["--resume"])
    assert_same_weights(weights(folder), weights(finished))
    before, after = metrics(finished), metrics(folder)
    assert {iteration: repeatable(after[iteration]) for iteration in before} == {
        iteration: repeatable(line) for iteration, line in before.items()
    }
    # Its last checkpoint is from before its last evaluation, which it may do again.
    for iteration in set(after) - set(before):
        assert after[iteration].get("bbox/AP", before[5]["bbox/AP"]) == before[5]["bbox/AP"]


def test_resume_without_a_checkpoint_says_so_and_starts_at_0(run, finished, tmp_path):
    run(tmp_path, flags=["--resume"])
    log = (tmp_path / "log.txt").read_text()
    assert f"--resume: {tmp_path} holds no checkpoint, so training starts at iteration 0." in log
    assert_same_weights(weights(tmp_path), weights(finished))


@pytest.mark.parametrize("how", ["init_checkpoint", "resume"])
def test_eval_only_gives_the_trainings_own_numbers(run, finished, tmp_path, monkeypatch, how):
    results = []
    monkeypatch.setattr(driver, "print_csv_format", results.append)
    folder = tmp_path / "run"
    if how == "resume":
        shutil.copytree(finished, folder)
        run(folder, "dataloader.test.batch_size=3", flags=["--eval-only", "--resume"])
        config = (folder / "config.yaml").read_bytes()
        assert config == (finished / "config.yaml").read_bytes()
        assert_same_weights(weights(folder), weights(finished))
        assert not (folder / "earlier_run_1").exists()
    else:
        run(folder, f"train.init_checkpoint={finished}/model_final.pth", flags=["--eval-only"])
        assert not list(folder.glob("*.pth"))
    expected = {k.removeprefix("bbox/"): repr(v) for k, v in metrics(finished)[5].items()
                if k.startswith("bbox/")}  # fmt: skip
    assert {k: repr(v) for k, v in results[0]["bbox"].items()} == expected


def test_a_checkpoint_of_another_model_says_what_was_skipped(run, finished, tmp_path):
    run(
        tmp_path,
        f"train.init_checkpoint={finished}/model_final.pth",
        "model.decoder.num_queries=12",
        "model.decoder.num_layers=1",
        "model.decoder.ffn_dim=48",
        "train.max_iter=1",
        "optimizer.lr=0.0",
    )
    log = (tmp_path / "log.txt").read_text()
    (misshapen,) = [line for line in log.splitlines() if "skipped for their shape" in line]
    assert "decoder.layers.0.ffn.linear1.weight (64, 32) instead of (48, 32)" in misshapen
    assert "decoder.query_embedding.weight: 10 rows of 10 for 12" in log
    (unknown,) = [line for line in log.splitlines() if "the model has no such tensor" in line]
    assert "decoder.layers.1." in unknown
    before, after = weights(finished), weights(tmp_path)
    assert torch.equal(after["neck.projections.0.weight"], before["neck.projections.0.weight"])


def record(name, folder, change=lambda content: None):
    """Register one image as a COCO data set."""
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 5, 6],
                         "area": 30, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "cat"}],
    }  # fmt: skip
    content = copy.deepcopy(content)
    change(content)
    json_file = folder / f"{name}.json"
    json_file.write_text(json.dumps(content))
    register_coco_instances(name, {}, str(json_file), str(folder))
    return json_file


@pytest.fixture
def refused(run, tmp_path, finished):
    """The one sentence with which a run ends; neither a new nor an old output directory changes."""

    def call(*overrides, flags=(), config=CONFIG) -> str:
        fresh, used = tmp_path / "fresh", tmp_path / "used"
        shutil.copytree(finished, used)
        messages = []
        for folder in (fresh, used):
            with pytest.raises(SystemExit) as exit_info:
                run(folder, *overrides, flags=flags, config=config)
            messages.append(str(exit_info.value.code))
        assert not fresh.exists()
        assert files(used) == files(finished)
        assert messages[0].startswith("train_net.py: ")
        assert len(messages[0].splitlines()) == 1
        assert messages[1].replace(str(used), str(fresh)) == messages[0]
        return messages[0]

    return call


@pytest.fixture
def data_set(tmp_path):
    name = "smca_test_broken"
    yield lambda **options: record(name, tmp_path, **options)
    DatasetCatalog.pop(name)
    MetadataCatalog.pop(name)


@pytest.mark.parametrize("split", ["train", "test"])
def test_refuses_a_missing_image(refused, data_set, tmp_path, split):
    data_set()
    message = refused(f"dataloader.{split}.dataset.names=smca_test_broken")
    assert "1 of 1 image files of smca_test_broken are missing" in message
    assert str(tmp_path / "a.png") in message


@pytest.mark.parametrize("split", ["train", "test"])
def test_refuses_an_annotation_file_that_is_no_coco_json(refused, data_set, split):
    json_file = data_set(change=lambda content: content.pop("annotations"))
    message = refused(f"dataloader.{split}.dataset.names=smca_test_broken")
    assert f"{json_file} (data set 'smca_test_broken') is no COCO json" in message


def test_refuses_an_annotation_file_that_is_missing(refused, data_set):
    json_file = data_set()
    json_file.unlink()
    message = refused("dataloader.train.dataset.names=smca_test_broken")
    assert f"{json_file} does not exist" in message


def test_refuses_a_data_set_that_is_not_registered(refused):
    message = refused("dataloader.train.dataset.names=smca_test_nowhere")
    assert "'smca_test_nowhere' is not registered" in message


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_refuses_a_category_without_a_class(refused, flags):
    message = refused("model.num_classes=4", flags=flags)
    assert "the model has num_classes=4 (classes 0 to 3)" in message
    assert ("digits_val" if flags else "digits_train") in message


def test_refuses_more_classes_than_the_evaluation_knows(refused):
    message = refused("model.num_classes=80")
    assert "digits_val has 10 classes, but the model has num_classes=80" in message


def test_refuses_a_missing_config(refused, tmp_path):
    message = refused(config=str(tmp_path / "nowhere.py"))
    assert f"config file '{tmp_path / 'nowhere.py'}' does not exist" in message


def test_refuses_a_config_with_a_syntax_error(refused, tmp_path):
    config = tmp_path / "broken.py"
    config.write_text("model = (\n")
    message = refused(config=str(config))
    assert f"config file {config}, line 1 cannot be loaded" in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.decoder.num_querys=5", "the nearest is model.decoder.num_queries"),
        ("train.seed", "cannot read the override 'train.seed'"),
        ("train.seed.deep=1", "train.seed is no group of fields but 42"),
        ("dataloader.train.total_batch_size=0", "must be a whole number, at least 1"),
        ("train.max_iter=abc", "train.max_iter='abc' must be a whole number"),
        ("train.epochs=-3", "train.epochs=-3 must be a number above 0"),
        ("optimizer.lr=fast", "optimizer.lr='fast' must be a number"),
        ("+data.train_json=a.json", "nothing in this config reads data.train_json"),
        ("model.encoder.blocks=2Extra", "unknown word '2Extra'"),
        ("model.encoder.blocks=0Intra", "has no block"),
        ("model.neck.in_channels=[32]", "64 channels at stride 16"),
        ("model.backbone.norm=XX", "backbone.norm 'XX' is unknown; choose one of FrozenBN"),
        ("model.input_format=XYZ", "model.input_format='XYZ' must be RGB or BGR"),
        ("dataloader.train.mapper.image_format=QQ", "image_format='QQ' must be RGB or BGR"),
        ("model.classification.alpha=2", "alpha=2 must be a number from 0 to 1"),
        ("train.hooks=[5]", "train.hooks=[5] must be a list of hooks"),
        ("model._target_=nope.nope", "model._target_=nope.nope names nothing that can be imported"),
        ("train.amp=null", "train.amp=null: it is a group of fields"),
        ("train.evaluation.metric=bbox/NOPE", "is no number of this evaluation"),
        ("train.epochs=1e30", "at most 1000000000"),
    ],
)
def test_refuses_a_wrong_override(refused, override, words):
    assert words in refused(override)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has the device")
def test_refuses_a_device_that_is_not_there(refused):
    assert "PyTorch sees no CUDA device; use train.device=cpu" in refused("train.device=cuda")


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_refuses_a_missing_checkpoint(refused, tmp_path, flags):
    path = tmp_path / "nowhere.pth"
    message = refused(f"train.init_checkpoint={path}", flags=flags)
    assert f"there is no file {path}" in message


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_refuses_a_corrupt_checkpoint(refused, tmp_path, flags, content):
    path = tmp_path / "corrupt.pth"
    path.write_bytes(content)
    message = refused(f"train.init_checkpoint={path}", flags=flags)
    assert f"{path} cannot be read as a checkpoint" in message


def test_refuses_a_checkpoint_of_which_nothing_fits(refused, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"model": {"fc.weight": torch.zeros(3)}}, path)
    assert f"no tensor of {path} fits this model" in refused(f"train.init_checkpoint={path}")


def test_refuses_to_evaluate_another_model(refused, finished):
    weights = f"train.init_checkpoint={finished}/model_final.pth"
    message = refused(weights, "model.decoder.num_layers=3", flags=["--eval-only"])
    assert f"--eval-only: {finished}/model_final.pth is not of this model" in message
    assert "tensors missing in it (decoder." in message


def test_refuses_an_output_directory_that_is_none(run):
    with pytest.raises(SystemExit, match=r"^train_net\.py: train\.output_dir=null must be a path$"):
        run("x", "train.output_dir=null")


def test_settings_are_checked_before_processes_are_started(train_net, monkeypatch):
    monkeypatch.setattr(driver, "launch", lambda *_, **__: pytest.fail("too early"))
    arguments = ["--config-file", "digits/smca_single_scale", "train.device=3"]
    with pytest.raises(SystemExit, match=r"^train_net.py: train\.device=3 must be a word$"):
        run_command(train_net.build_parser().parse_args(arguments))


def test_an_experiment_of_the_zoo_by_name(run, refused, tmp_path):
    run(tmp_path / "run", "train.max_iter=1", config="digits/smca_single_scale")
    assert (tmp_path / "run" / "model_final.pth").is_file()
    message = refused(config="digits/smca_singel_scale")
    assert "did you mean digits/smca_single_scale" in message


@pytest.mark.parametrize("step", ["lock_run", "set_earlier_run_aside"])
def test_an_error_of_the_file_system_names_its_field(run, tmp_path, monkeypatch, step):
    def fail(folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(driver, step, fail)
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "run")
    assert str(ended.value.code) == (
        f"train_net.py: train.output_dir={tmp_path}/run cannot be written (No space left on device); make room or "
        "give another one"
    )


def test_refuses_frozen_norms_without_weights(refused, finished, tmp_path):
    message = refused("model.backbone.norm=FrozenBN")
    assert "norms are frozen" in message
    assert "train.init_checkpoint=torchvision://resnet50" in message

    # Nor with a checkpoint that has no weights for them.
    path = tmp_path / "no_backbone.pth"
    rest = {k: v for k, v in weights(finished).items() if not k.startswith("backbone.")}
    torch.save(rest, path)
    shutil.rmtree(tmp_path / "used")
    message = refused("model.backbone.norm=FrozenBN", f"train.init_checkpoint={path}")
    assert "norms are frozen" in message


@pytest.mark.parametrize("flags", [["--eval-only"], ["--eval-only", "--resume"]])
def test_refuses_to_evaluate_without_weights(run, finished, tmp_path, flags):
    with pytest.raises(SystemExit, match=r"--eval-only needs weights: set train\.init_checkpoint"):
        run(tmp_path / "fresh", flags=flags)
    assert not (tmp_path / "fresh").exists()


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The script in processes of its own, as a user starts it."""
    folder = tmp_path_factory.mktemp("commands")
    arguments = {
        "config": ["--config-file", "configs/smca_r50_50epoch.py"],
        "data": ["--config-file", "configs/smca_r50_50ep.py"],
    }
    environment = {
        **os.environ, "DETECTRON2_DATASETS": str(folder / "datasets"), "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    processes = {
        name: subprocess.Popen(
            [sys.executable, str(ROOT / "train_net.py"), *words, f"train.output_dir={folder / name}"],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for name, words in arguments.items()
    }  # fmt: skip
    results = {}
    for name, process in processes.items():
        output = process.communicate(timeout=120)
        results[name] = (process.returncode, *output)
    return results, folder


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config", "config file 'configs/smca_r50_50epoch.py' does not exist; did you mean "
                   "configs/smca_r50_50ep.py?"),
        ("data", "data set coco_2017_train: "),
    ],
)  # fmt: skip
def test_the_command_ends_with_one_sentence(commands, name, sentence):
    results, folder = commands
    status, output, errors = results[name]
    assert status == 1
    assert "Traceback" not in output + errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"train_net.py: {sentence}")
    assert list(folder.iterdir()) == []


def test_a_resume_that_is_refused_changes_nothing(run, finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    before = {k: v for k, v in files(folder).items() if k != "log.txt"}
    for override, message in (
        ("train.max_iter=4", "holds 6 iterations, and this training is to end after 4"),
        ("model.decoder.num_queries=20", "model.decoder.num_queries is 20, but the run in"),
    ):
        with pytest.raises(SystemExit, match=message):
            run(folder, override, flags=["--resume"])
    assert {k: v for k, v in files(folder).items() if k != "log.txt"} == before


def test_the_yaml_of_a_run_is_a_config(run, finished, tmp_path):
    """Also where the new run moves it away with the old one."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run(folder, "train.max_iter=3", config=str(folder / "config.yaml"))
    # Its parts are drawn in another order, so the values differ.
    assert weights(folder).keys() == weights(finished).keys()
    assert list(metrics(folder)) == [0, 1, 2]
    assert files(folder / "earlier_run_1") == files(finished)
    assert LazyConfig.load(str(folder / "config.yaml")).train.max_iter == 3


def test_a_resume_keeps_the_record_of_the_start(run, finished, tmp_path):
    folder = interrupted(finished, tmp_path / "run")
    run(folder, "optimizer.weight_decay=0.5", "train.seed=7", flags=["--resume"])
    assert (folder / "config.yaml").read_bytes() == (finished / "config.yaml").read_bytes()
    assert LazyConfig.load(str(folder / "config_resumed_1.yaml")).train.seed == 7
    log = (folder / "log.txt").read_text()
    assert (
        "optimizer.weight_decay was 0.0001 at the start and is 0.5 now: the checkpoint's counts"
        in log
    )
    assert "train.seed was 42 at the start and is 7 now: the new value counts from here on" in log


@pytest.mark.parametrize("left", ["metrics.json", "config.yaml"])
def test_a_run_that_left_no_checkpoint_is_no_start(run, finished, tmp_path, left):
    """What it was started with is not what the next one is resumed with."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for path in folder.glob("model_*.pth"):
        path.unlink()
    if left == "config.yaml":
        # Of a start that was killed before its first line.
        (folder / "metrics.json").unlink()
    run(folder, "train.seed=7", "train.max_iter=3", flags=["--resume"])
    assert LazyConfig.load(str(folder / "config.yaml")).train.seed == 7
    assert (folder / "earlier_run_1" / "config.yaml").is_file() == (left == "metrics.json")
    assert list(metrics(folder)) == [0, 1, 2]


def test_a_resume_with_renamed_classes_is_refused(run, tmp_path):
    """As many classes as before would fit, and every detection would get another name."""
    custom = str(ROOT / "configs" / "digits" / "custom_coco.py")
    data = write_data_set(tmp_path)
    overrides = [*TINY_MODEL, *data_overrides(data, data)]
    run(tmp_path / "run", *overrides, config=custom)
    before = {k: v for k, v in files(tmp_path / "run").items() if k != "log.txt"}
    content = pets()
    content["categories"][1]["name"] = "tiger"
    data[0].write_text(json.dumps(content))
    with pytest.raises(
        SystemExit, match=r"knows the classes cat, dog, emu, the data has tiger, dog, emu"
    ):
        run(tmp_path / "run", *overrides, "train.max_iter=2", config=custom, flags=["--resume"])
    assert {k: v for k, v in files(tmp_path / "run").items() if k != "log.txt"} == before


def test_few_steps_are_said_once(finished):
    log = (finished / "log.txt").read_text()
    assert log.count("6 steps are few") == 1
    assert "set train.max_iter=500 or more" in log


def test_the_log_is_plain_text(run, tmp_path, monkeypatch):
    """Detectron2 colours the config's text where pygments is installed, also on its way to a file."""
    from detectron2.engine import defaults

    monkeypatch.setattr(defaults, "_highlight", lambda code, name: f"\x1b[31m{code}\x1b[0m")
    run(tmp_path, "train.max_iter=1")
    log = (tmp_path / "log.txt").read_text()
    assert "\x1b" not in log
    assert "num_queries: 10" in log
    assert "Environment info" in log


def test_warnings_of_others_are_quiet(capsys):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_train_net()
        warnings.warn("this will change", FutureWarning, stacklevel=1)
    assert [str(w.message) for w in caught] == []


def test_help_shows_our_examples(train_net):
    text = " ".join(train_net.build_parser().format_help().split())
    assert "train_net.py --config-file smca_r50_50ep --num-gpus 8" in text
    assert "the config.yaml of a run" in text
    assert "YACS" not in text
    assert "MODEL.WEIGHTS" not in text
