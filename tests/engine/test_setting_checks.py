"""Values that no field can have: one sentence with field, value and what it may be."""

import copy
import functools

import pytest
from detectron2.config import LazyCall as L
from detectron2.engine import HookBase
from omegaconf import OmegaConf

from smca import model_zoo
from smca.engine.settings.fields import ALWAYS, ANYWHERE, TRAINING
from smca.engine.settings.setting_checks import check_settings
from smca.errors import InputError
from smca.experiments import DATA_TEMPLATES, apply_overrides

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


SOURCE = "model.decoder.queries"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (f"{SOURCE}.num_denoising", ("abc", "null", "-2", "[1]", "1e30")),
        (f"{SOURCE}.box_noise", ("abc", "null", "-0.1", "1.1")),
        (f"{SOURCE}.label_noise", ("abc", "null", "2")),
        (f"{SOURCE}.weight", ("abc", "null", "-1", ".nan", ".inf")),
        (f"{SOURCE}.queries.num_groups", ("abc", "0", "101")),
        (f"{SOURCE}.queries.queries.cell_side", ("abc", "0", ".inf")),
        (f"{SOURCE}.queries.queries.weight", ("abc", "-1")),
        ("model.decoder.modulation.typical_side", ("abc", "0", ".inf")),
        ("model.decoder.query_position.temperature", ("abc", "-1", ".inf")),
        ("model.decoder.query_position.num_coordinates", ("abc", "0", "7")),
        ("model.decoder.refinement.look_forward_twice", ("abc", "7")),
        ("model.decoder.output_norm", ("abc", "7")),
        ("model.heads.predict_boxes", ("abc", "7")),
        ("model.classification.target_power", ("abc", "null", "-1", ".inf")),
        ("model.classification.cost_power", ("abc", "-1")),
        ("model.classification.negative_weight", ("abc", "-1")),
    ],
)  # fmt: skip
def test_fields_of_parts_beyond_the_paper(field, values):
    cfg = model_zoo.get_config("digits/smca_plus")
    for value in values:
        with pytest.raises(InputError, match=f"^{field}=.* must be "):
            check_settings(apply_overrides(copy.deepcopy(cfg), [f"{field}={value}"]), training=True)


@pytest.mark.parametrize("name", [*model_zoo.list_configs(), *DATA_TEMPLATES])
def test_every_experiment_passes(name):
    check_settings(model_zoo.get_config(name), training=True)


@pytest.mark.parametrize("field", [*COUNTS, *COUNTS_OR_ZERO])
def test_whole_numbers(field):
    for value in ("abc", "1.5", "-3", "True", "1000.0"):
        refuse(f"{field}={value}", "a whole number")
    if field in COUNTS:
        refuse(f"{field}=0", "a whole number, ")
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
        ("model.neck.in_channels=[]", "a list of whole numbers, at least 1, such as [32], or null"),
        ("model.neck.strides=16", "a list of whole numbers, at least 1, such as [32]"),
        ("model.neck.in_features=res5", "a list of words, such as [res5]"),
        ("model.backbone.out_features=res5", "a list of words, such as [res5]"),
        ("model.input_format=XYZ", "RGB or BGR"),
        ("dataloader.train.mapper.image_format=L", "RGB or BGR"),
        ("model.classification.alpha=2", "a number from 0 to 1"),
        ("model.classification.gamma=-1", "a number from 0"),
        ("+model.classification.eps=0", "a number above 0"),
        ("train.hooks=[5]", "a list of hooks, each a detectron2.engine.HookBase or a group of"),
        (
            "train.hooks=[{lr:3}]",
            "a list of hooks, each a detectron2.engine.HookBase or a group of",
        ),
        ("train.hooks=[{_target_:builtins.dict}]", "must be a detectron2.engine.HookBase"),
        ("optimizer.fused=perhaps", "True, False or null"),
        ("optimizer.foreach=1", "True, False or null"),
        ("optimizer.amsgrad=2", "True or False"),
        ("lr_multiplier.warmup_factor=7", "a number from 0 to 1"),
        ("train.max_iter=99999999999999999999999", "a whole number, 1 to 1000000000, or null"),
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
    assert message.startswith((f"{key.lstrip('+')}=", f"{key}.0._target_="))
    assert message.endswith(words) or words in message
    assert ("null" in message) or value != "null"


@pytest.mark.parametrize(
    "group", ["train.amp", "train.evaluation", "train.checkpointer", "train.ddp", "optimizer.params",
     "dataloader.test"],
)  # fmt: skip
def test_a_group_is_one(group):
    with pytest.raises(ValueError, match=rf"^{group}=null: it is a group of fields, set one of"):
        check(f"{group}=null")
    if group.startswith("train."):
        cfg = copy.deepcopy(experiment())
        OmegaConf.update(cfg, group, 3, merge=False)
        with pytest.raises(ValueError, match=rf"^{group}=3: it is a group of fields"):
            check_settings(cfg, training=True)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model._target_=nope.nope", "names nothing that can be imported"),
        ("optimizer._target_=torch.optim.Adamw", "imported; the nearest is torch.optim.AdamW"),
        ("model._target_=smca.modelling.SMCA", "imported; the nearest is smca.modeling"),
        ("model.neck._target_=smca.modeling.Neckk", "the nearest is smca.modeling.Neck"),
        ("optimizer._target_=torch.optim", "cannot be called: it must name a class or function"),
        ("optimizer._target_=3", "cannot be called: it must name a class or function"),
        ("dataloader.test.mapper.augmentations.0._target_=gone.Resize", "names nothing that can"),
    ],
)
def test_targets(override, words):
    # Further fields of such a part are looked at without it.
    part = override.partition("._target_")[0]
    later = {"model": ["model.num_classes=3"], "optimizer": ["optimizer.lr=1"]}.get(part, [])
    for others in [], later:
        with pytest.raises(ValueError, match=r"^\S+\._target_=\S+ ") as caught:
            check(override, *others)
        assert str(caught.value).startswith(override)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_evaluation_needs_no_optimizer():
    check("optimizer._target_=nope.nope", training=False)
    with pytest.raises(ValueError, match=r"^model\._target_=nope\.nope names nothing"):
        check("model._target_=nope.nope", training=False)


@pytest.mark.parametrize(
    ("fields", "words"),
    [("", "missing a required argument: 'writers'"), (",pediod:3,writers:[]", "'pediod'")],
)
def test_hooks_that_lack_an_argument(fields, words):
    hook = "detectron2.engine.hooks.PeriodicWriter"
    with pytest.raises(
        ValueError, match=rf"^train\.hooks\.0 \({hook}\) cannot be built: "
    ) as caught:
        check(f"train.hooks=[{{_target_:{hook}{fields}}}]")
    assert words in str(caught.value)


def test_hooks_may_be_objects_and_descriptions():
    cfg = copy.deepcopy(experiment())
    cfg.train.hooks = [HookBase(), L(HookBase)()]
    check_settings(cfg, training=True)


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
    unknown = [f for f in fields if f not in known and not f.endswith("_target_")]
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
