"""Each setting that cannot work is one sentence, before anything is built or written."""

import math
import os
import re

import pytest
import torch
from omegaconf import OmegaConf

from smca import model_zoo
from smca.checkpoint import ModelInfo
from smca.data import CLASSES, DigitsSpec, register_digits
from smca.engine import RunInputs, inputs
from smca.engine.settings import best_metric
from smca.errors import InputError
from smca.experiments import apply_overrides


@pytest.fixture(scope="module", autouse=True)
def digits(tmp_path_factory):
    register_digits(
        tmp_path_factory.mktemp("datasets"), spec=DigitsSpec(train_images=4, val_images=2)
    )
    yield
    register_digits()


@pytest.fixture
def cfg(tmp_path):
    cfg = model_zoo.get_config("digits/smca_single_scale")
    cfg.train.device = "cpu"
    cfg.train.output_dir = str(tmp_path / "run")
    return cfg


def check_inputs(cfg, *, training, **options):
    RunInputs(cfg, training=training).check(**options)


def refuse(cfg, message, **options):
    with pytest.raises(InputError, match=message) as caught:
        check_inputs(cfg, training=True, **options)
    assert "\n" not in str(caught.value)


@pytest.fixture
def nothing_built(monkeypatch):
    """Neither data nor models are looked at before the settings."""

    def fail(*_, **__):
        raise AssertionError("too early")

    monkeypatch.setattr(inputs, "instantiate", fail)


def test_the_config_is_fine_as_it_is(cfg, tmp_path):
    check_inputs(cfg, training=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("batch_size", "steps", "message"),
    [
        (16, 0, r"train\.accumulate_steps=0 must be a whole number, at least 1"),
        (16, -1, r"train\.accumulate_steps=-1 must be a whole number, at least 1"),
        (16, 3, r"total_batch_size 16 must be .* 1 processes times 3 forward passes"),
        (2, 4, r"total_batch_size 2 must be .* times 4 forward passes"),
        (0, 1, r"dataloader\.train\.total_batch_size=0 must be a whole number, at least 1$"),
    ],
)
def test_batches(cfg, nothing_built, batch_size, steps, message):
    cfg.dataloader.train.total_batch_size = batch_size
    cfg.train.accumulate_steps = steps
    refuse(cfg, message)


@pytest.mark.parametrize("dtype", ["fp16", "float32", "half", "torch.bfloat16", ""])
def test_amp(cfg, nothing_built, dtype):
    cfg.train.amp.enabled = True
    cfg.train.amp.dtype = dtype
    refuse(cfg, rf"train\.amp\.dtype='{dtype}' must be bfloat16 or float16")


@pytest.mark.parametrize("decay", [1.0, -0.5, 2, math.nan])
def test_ema(cfg, nothing_built, decay):
    cfg.train.ema.enabled = True
    cfg.train.ema.decay = decay
    refuse(cfg, rf"train\.ema\.decay={decay} must be a number from 0 and below 1")


@pytest.mark.parametrize("keep", [0, 1, -3])
def test_checkpoints_to_keep(cfg, nothing_built, keep):
    cfg.train.checkpointer.max_to_keep = keep
    refuse(
        cfg, rf"train\.checkpointer\.max_to_keep={keep} must be a whole number, at least 2, or null"
    )


@pytest.mark.parametrize("skips", [-1, -16])
def test_steps_that_may_be_left_out(cfg, nothing_built, skips):
    cfg.train.skip_nonfinite = skips
    refuse(cfg, rf"train\.skip_nonfinite={skips} must be a whole number, at least 0, or null")


@pytest.mark.parametrize("rule", ["squared", "Linear", ""])
def test_rules_for_the_learning_rate(cfg, nothing_built, rule):
    cfg.train.lr_scaling.rule = rule
    refuse(cfg, rf"train\.lr_scaling\.rule='{rule}' must be null, linear or sqrt")


@pytest.mark.parametrize("reference", [0, -8])
def test_a_reference_that_is_no_batch_size(cfg, nothing_built, reference):
    cfg.train.lr_scaling.update(rule="linear", reference_batch_size=reference)
    refuse(cfg, rf"lr_scaling\.reference_batch_size={reference} must be a whole number, at least 1")


def test_what_is_switched_off_may_say_anything(cfg):
    cfg.train.amp.dtype = "fp16"
    cfg.train.ema.decay = 7
    cfg.train.checkpointer.max_to_keep = None
    check_inputs(cfg, training=True)


def test_an_evaluation_needs_none_of_the_trainings_settings(cfg, tmp_path):
    cfg.train.accumulate_steps = 0
    cfg.train.checkpointer.max_to_keep = 1
    path = tmp_path / "start.pth"
    model = model_zoo.get("digits/smca_single_scale")
    torch.save({"model": model.state_dict()}, path)
    cfg.train.init_checkpoint = str(path)
    check_inputs(cfg, training=False)


def test_a_run_with_a_checkpoint_needs_no_initial_weights(cfg, tmp_path, monkeypatch):
    cfg.model.backbone.norm = "FrozenBN"
    refuse(cfg, "norms are frozen")
    refuse(cfg, "norms are frozen", resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_0000001.pth").touch()
    check_inputs(cfg, training=True, resume=True)
    refuse(cfg, "norms are frozen")


def test_an_evaluation_needs_every_tensor(cfg, tmp_path):
    """Weights of which nearly nothing fits would give a number, and a wrong one."""
    state = model_zoo.get("digits/smca_single_scale").state_dict()
    few = ("pixel", "backbone.stem.conv1")
    cfg.train.init_checkpoint = str(tmp_path / "few.pth")
    torch.save({k: v for k, v in state.items() if k.startswith(few)}, cfg.train.init_checkpoint)
    with pytest.raises(ValueError, match=r"--eval-only: .*few\.pth is not of this model") as caught:
        check_inputs(cfg, training=False)
    assert "tensors missing in it (backbone.res2.0" in str(caught.value)
    assert "\n" not in str(caught.value)
    # A training takes what there is.
    check_inputs(cfg, training=True)

    counters = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(counters) < len(state)
    torch.save(counters, cfg.train.init_checkpoint)
    check_inputs(cfg, training=False)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("decoder.num_queries", 7, "number of rows (decoder.query_embedding.weight: 7 rows of 20"),
        ("encoder.ffn_dim", 48, "tensors of another shape ("),
        ("decoder.num_layers", 2, "that the model does not have (decoder.layers.2"),
    ],
)
def test_an_evaluation_of_another_model_names_the_mismatch(cfg, tmp_path, field, value, words):
    cfg.train.init_checkpoint = str(tmp_path / "w.pth")
    torch.save(model_zoo.get("digits/smca_single_scale").state_dict(), cfg.train.init_checkpoint)
    OmegaConf.update(cfg, f"model.{field}", value)
    with pytest.raises(ValueError, match="--eval-only: ") as caught:
        check_inputs(cfg, training=False)
    assert words in str(caught.value)


def test_an_evaluation_needs_every_class(cfg, tmp_path):
    state = model_zoo.get("digits/smca_single_scale").state_dict()
    for names, unknown in (
        (CLASSES, None),
        ("abcdefghij", "10 classes that it does not know (0, 1"),
    ):
        info = ModelInfo(model={"_target_": "x"}, class_names=tuple(names))
        cfg.train.init_checkpoint = str(tmp_path / "w.pth")
        torch.save({"model": state, "smca": info.to_json()}, cfg.train.init_checkpoint)
        if unknown is None:
            check_inputs(cfg, training=False)
        else:
            with pytest.raises(ValueError, match="--eval-only: ") as caught:
                check_inputs(cfg, training=False)
            assert unknown in str(caught.value)


def test_frozen_norms_name_the_weights_that_do_not_fit_them(cfg, tmp_path):
    cfg.train.init_checkpoint = str(tmp_path / "w.pth")
    torch.save(model_zoo.get("digits/smca_single_scale").state_dict(), cfg.train.init_checkpoint)
    cfg.model.backbone.norm = "FrozenBN"
    cfg.model.backbone.stem_channels = 16
    cfg.model.neck.in_channels = [64]
    refuse(
        cfg, r"norms are frozen, but .*w\.pth has no weights that fit all of them \(\d+ tensors of"
    )


def test_a_folder_is_no_checkpoint(cfg, tmp_path):
    cfg.train.init_checkpoint = str(tmp_path)
    refuse(cfg, f"train.init_checkpoint: {tmp_path} is a folder")


def test_an_output_directory_that_cannot_be(cfg, tmp_path, nothing_built):
    (tmp_path / "file").touch()
    cfg.train.output_dir = str(tmp_path / "file" / "run")
    refuse(cfg, r"train\.output_dir=.*run: .*file is no folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_directory_of_others(cfg, tmp_path, nothing_built):
    (tmp_path / "theirs").mkdir(mode=0o500)
    cfg.train.output_dir = str(tmp_path / "theirs" / "run")
    refuse(cfg, r"train\.output_dir=.*theirs cannot be written to")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+model.surprise=1", r"^model \(.*\) cannot be built: .*surprise"),
        ("+model.encoder.surprise=1", r"^model.encoder \(.*\) cannot be built: .*surprise"),
        ("+optimizer.surprise=1", r"^optimizer \(.*\) cannot be built: .*surprise"),
        ("+optimizer.params.surprise=1", r"^optimizer.params \(.*\) cannot be built: .*surprise"),
        ("+lr_multiplier.surprise=1", r"^lr_multiplier \(.*\) cannot be built: .*surprise"),
        ("+dataloader.train.surprise=1", r"^dataloader\.train \(.*\) cannot be"),
        ("+dataloader.test.dataset.surprise=1", r"^dataloader\.test\.dataset \(.*\) cannot be"),
        ("+dataloader.evaluator.surprise=1", r"^dataloader\.evaluator \(.*\) cannot be"),
        ("model.encoder.num_heads=7", "7"),
    ],
)
def test_arguments_that_a_part_does_not_take(cfg, override, words):
    refuse(apply_overrides(cfg, [override]), words)


def test_more_objects_than_this_models_queries_are_told(cfg, caplog):
    cfg.model.decoder.num_queries = 1
    with caplog.at_level("WARNING", "smca"):
        check_inputs(cfg, training=True)
    assert "more objects than the model's 1 queries" in caplog.text


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("bbox/NOPE", "there are bbox/AP, bbox/AP50, "),
        ("AP", "the nearest is bbox/AP$"),
        ("bbox/AP-sevn", "the nearest is bbox/AP-seven"),
        ("bbox/ap50", "the nearest is bbox/AP50"),
        ("bbox_ema/AP", r"averaged weights need train\.ema\.enabled=True"),
    ],
)
def test_a_metric_that_no_evaluation_gives(cfg, metric, words, monkeypatch):
    monkeypatch.setattr(
        best_metric, "MetadataCatalog", {"digits_val": {"thing_classes": ["seven"]}}
    )
    cfg.train.evaluation.metric = metric
    with pytest.raises(
        ValueError, match=r"^train\.evaluation\.metric='.*' is no number of"
    ) as caught:
        best_metric.check_metric(cfg)
    assert re.search(words, str(caught.value))


def test_metrics_that_an_evaluation_gives(cfg):
    cfg.train.ema.enabled = True
    for metric in (
        None, "bbox/AP", "bbox/APs", "bbox/AR100", "bbox_ema/AP50", f"bbox/AP-{CLASSES[3]}",
        f"bbox_ema/AP-{CLASSES[3]}",
    ):  # fmt: skip
        cfg.train.evaluation.metric = metric
        best_metric.check_metric(cfg)
    # What an evaluator of one's own gives is not known before.
    cfg.dataloader.evaluator = {"_target_": "builtins.dict"}
    cfg.train.evaluation.metric = "mine/F1"
    best_metric.check_metric(cfg)


def test_the_metric_is_looked_at_before_a_model_is_built(cfg):
    cfg.train.evaluation.metric = "bbox/NOPE"
    cfg.model.backbone.norm = "XX"
    refuse(cfg, r"^train\.evaluation\.metric='bbox/NOPE'")
    cfg.train.evaluation.metric = None
    refuse(cfg, r"backbone\.norm 'XX' is unknown; choose one of FrozenBN, BN")


def test_more_epochs_than_any_training_has(cfg):
    cfg.train.epochs = 1e30
    refuse(cfg, r"^train\.epochs=1e\+30 is .* iterations of this data set, at most 1000000000")


def own_loss(**_):
    raise ValueError("not enough values to unpack")


def test_what_a_part_of_ones_own_raises_keeps_its_traceback(cfg):
    cfg.model.criterion._target_ = own_loss
    with pytest.raises(ValueError, match="not enough values") as caught:
        RunInputs(cfg, training=True).check()
    assert not isinstance(caught.value, InputError)
    assert any(entry.name == "own_loss" for entry in caught.traceback)


def test_an_encoder_has_a_block(cfg):
    cfg.model.encoder.blocks = "0Intra"
    refuse(cfg, r"encoder\.blocks '0Intra' has no block")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, r"^dataloader\.train\.mapper=None is none: it must turn a dataset dict"),
        (
            {"_target_": "smca.data.DetectionMapper", "is_train": True},
            r"^dataloader\.train\.mapper \(.*\) cannot be built: .*augmentations",
        ),
    ],
)
def test_mappers(cfg, value, message):
    cfg.dataloader.train.mapper = value
    refuse(cfg, message)
