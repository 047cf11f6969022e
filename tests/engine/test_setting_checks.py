"""Values that no field can have: one sentence with field, value and what it may be."""

import copy
import functools

import pytest
from omegaconf import OmegaConf

from smca import model_zoo
from smca.engine import apply_overrides
from smca.engine.setting_checks import ALWAYS, ANYWHERE, TRAINING, check_settings
from smca.model_zoo.model_zoo import DATA_TEMPLATES

NAME = "digits/smca_single_scale"
COUNTS = (
    "train.max_iter", "train.accumulate_steps", "train.log_period", "train.lr_scaling.reference_batch_size",
    "train.checkpointer.max_to_keep", "dataloader.train.total_batch_size", "dataloader.test.batch_size",
    "model.decoder.num_queries", "model.decoder.num_layers", "model.encoder.num_heads", "model.neck.embed_dim",
    "model.encoder.ffn_dim", "model.backbone.depth", "model.backbone.stem_channels", "model.num_classes",
    "model.postprocessor.max_detections", "dataloader.test.mapper.augmentations.0.max_size",
)  # fmt: skip
COUNTS_OR_ZERO = (
    "train.seed", "train.skip_nonfinite", "train.checkpointer.period", "train.evaluation.period",
    "dataloader.train.num_workers", "dataloader.test.num_workers", "lr_multiplier.warmup_iterations",
    "model.backbone.freeze_at",
)  # fmt: skip
RATES = (
    "optimizer.lr", "optimizer.weight_decay", "optimizer.params.backbone_lr", "train.clip_grad_norm",
    "train.checkpointer.period_epochs", "train.evaluation.period_epochs", "lr_multiplier.gamma",
    "model.criterion.class_weight", "model.criterion.matcher.giou_weight",
)  # fmt: skip
FLAGS = (
    "train.amp.enabled", "train.ema.enabled", "train.ddp.broadcast_buffers", "model.isolate_images",
    "model.encoder.share_ffn", "dataloader.train.dataset.filter_empty",
)  # fmt: skip


@functools.cache
def experiment():
    return model_zoo.get_config(NAME)


def check(*overrides, training=True):
    cfg = copy.deepcopy(experiment())
    check_settings(apply_overrides(cfg, overrides), training=training)


def refuse(override, words=""):
    field, _, value = override.partition("=")
    with pytest.raises(ValueError, match=f"^{field}=.* must be ") as caught:
        check(override)
    message = str(caught.value)
    assert message.startswith((f"{field}={value} must", f"{field}={value!r} must")), message
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("name", [*model_zoo.list_configs(), *DATA_TEMPLATES])
def test_every_experiment_passes(name):
    check_settings(model_zoo.get_config(name), training=True)


@pytest.mark.parametrize("field", [*COUNTS, *COUNTS_OR_ZERO])
def test_whole_numbers(field):
    for value in ("abc", "1.5", "-3", "True", "1000.0"):
        refuse(f"{field}={value}", "a whole number")
    if field in COUNTS:
        refuse(f"{field}=0", "a whole number, at least")
    check(f"{field}={2 if field in COUNTS else 0}")


@pytest.mark.parametrize("field", RATES)
def test_numbers(field):
    for value in ("fast", "-0.5", "True"):
        refuse(f"{field}={value}", "a number from 0")
    check(f"{field}=0")
    check(f"{field}=1e-3")


@pytest.mark.parametrize("field", FLAGS)
def test_flags(field):
    for value in ("yes_please", "2"):
        refuse(f"{field}={value}", "True or False")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs=0", "a number above 0, or null"),
        ("train.epochs=-3", "a number above 0, or null"),
        ("train.output_dir=null", "a path"),
        ("train.device=3", "a word"),
        ("train.seed=null", "a whole number"),
        ("train.seed=99999999999", "0 to 2147483648"),
        ("train.hooks=3", "a list"),
        ("optimizer.betas=[0.9,1.5]", "two numbers from 0 and below 1"),
        ("optimizer.lr=null", "a number from 0"),
        ("lr_multiplier.drop_epochs=10", "a list of epochs, such as [40], or null"),
        ("lr_multiplier.drop_at=[80]", "a list of shares of the training"),
        ("lr_multiplier.drop_at=0.8", "a list of shares of the training"),
        ("model.encoder.dropout=1", "a number from 0 and below 1"),
        ("model.neck.in_channels=[]", "a whole number, at least 1, or a list of such"),
        ("model.pixel_std=[1, 2, 0]", "three numbers above 0"),
        ("dataloader.test.mapper.augmentations.0.short_edge_length=[128, x]", "a list of such"),
        ("dataloader.train.dataset.names=3", "a name of a data set"),
        ("dataloader.train.mapper.augmentations=null", "a list"),
    ],
)
def test_other_fields(override, words):
    key, _, value = override.partition("=")
    with pytest.raises(ValueError, match="must be") as caught:
        check(override)
    message = str(caught.value)
    assert message.startswith(f"{key}=")
    assert message.endswith(words) or words in message
    assert ("null" in message) or value != "null"


def test_a_length_is_needed():
    check("train.epochs=null", "train.max_iter=7")
    with pytest.raises(
        ValueError, match=r"train\.epochs and train\.max_iter are both null: set one"
    ):
        check("train.epochs=null")


def test_an_evaluation_reads_less():
    for override in ("train.max_iter=abc", "optimizer.lr=fast", "train.amp.enabled=3"):
        check(override, training=False)
    for override in (
        "train.seed=abc",
        "dataloader.test.batch_size=0",
        "model.decoder.num_queries=20.5",
    ):
        with pytest.raises(ValueError, match="must be"):
            check(override, training=False)


def test_a_reference_that_leads_nowhere():
    with pytest.raises(ValueError, match=r"^model\.decoder\.num_queries cannot be read: .*nowhere"):
        check("model.decoder.num_queries='${nowhere}'")


def test_a_config_of_ones_own_train():
    cfg = model_zoo.get_config(NAME)
    cfg.train = OmegaConf.create({"output_dir": "x", "max_iter": 3})
    with pytest.raises(
        ValueError, match=r"train\.init_checkpoint is missing .* configs/common/train\.py"
    ):
        check_settings(cfg, training=True)


def test_every_number_of_the_shipped_configs_is_looked_at():
    """A new field is to be added to the tables, or to what may hold anything."""
    cfg = model_zoo.get_config(NAME)
    known = {*ALWAYS, *TRAINING, "train.amp.dtype", "train.ema.decay"}
    fields = [
        f"{part}.{name}"
        for part in ("train", "optimizer", "lr_multiplier")
        for name in leaves(cfg[part])
    ]
    unknown = [f for f in fields if f not in known and not f.endswith(("_target_", ".fused"))]
    assert unknown == []
    names = {name.rpartition(".")[2] for name in leaves(cfg.model)}
    free = {
        "_target_",
        "blocks",
        "norm",
        "input_format",
        "out_features",
        "in_features",
        "scale",
        "alpha",
        "gamma",
    }
    assert names - set(ANYWHERE["model"]) <= free | {"classification"}


def leaves(node, prefix=""):
    for key in node:
        value = node[key]
        if OmegaConf.is_dict(value):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
