"""Each setting that cannot work is one sentence, before anything is built or written."""

import pytest
import torch

from smca import model_zoo
from smca.data import DigitsSpec, register_digits
from smca.engine import check_inputs, inputs


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


def refuse(cfg, message, **options):
    with pytest.raises(ValueError, match=message) as caught:
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
        (16, 0, r"train\.accumulate_steps 0 must be at least 1"),
        (16, -1, r"train\.accumulate_steps -1 must be at least 1"),
        (16, 3, r"total_batch_size 16 must be .* 1 processes times 3 forward passes"),
        (2, 4, r"total_batch_size 2 must be .* times 4 forward passes"),
        (0, 1, r"total_batch_size 0 must be a positive multiple of the 1 processes$"),
    ],
)
def test_batches(cfg, nothing_built, batch_size, steps, message):
    cfg.dataloader.train.total_batch_size = batch_size
    cfg.train.accumulate_steps = steps
    refuse(cfg, message)


@pytest.mark.parametrize("dtype", ["fp16", "float32", "half"])
def test_amp(cfg, nothing_built, dtype):
    cfg.train.amp.enabled = True
    cfg.train.amp.dtype = dtype
    refuse(cfg, rf"train\.amp\.dtype '{dtype}' must be one of bfloat16, float16")


@pytest.mark.parametrize("decay", [1.0, -0.5, 2])
def test_ema(cfg, nothing_built, decay):
    cfg.train.ema.enabled = True
    cfg.train.ema.decay = decay
    refuse(cfg, rf"train\.ema\.decay {decay} must be at least 0 and below 1")


@pytest.mark.parametrize("keep", [0, 1, -3])
def test_checkpoints_to_keep(cfg, nothing_built, keep):
    cfg.train.checkpointer.max_to_keep = keep
    refuse(cfg, rf"train\.checkpointer\.max_to_keep={keep}: keep at least 2")


@pytest.mark.parametrize("skips", [-1, -16])
def test_steps_that_may_be_left_out(cfg, nothing_built, skips):
    cfg.train.skip_nonfinite = skips
    refuse(cfg, rf"train\.skip_nonfinite {skips} must be at least 0")


@pytest.mark.parametrize("rule", ["squared", "Linear", ""])
def test_rules_for_the_learning_rate(cfg, nothing_built, rule):
    cfg.train.lr_scaling.rule = rule
    refuse(cfg, rf"train\.lr_scaling\.rule '{rule}' must be null, linear or sqrt")


@pytest.mark.parametrize("reference", [0, -8])
def test_a_reference_that_is_no_batch_size(cfg, nothing_built, reference):
    cfg.train.lr_scaling.update(rule="linear", reference_batch_size=reference)
    refuse(cfg, rf"lr_scaling\.reference_batch_size {reference} must be at least 1")


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
