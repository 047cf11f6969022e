"""What a stranger's config may name: everything the shipped models are made of, and nothing that runs code."""

import copy
import json
import pydoc

import pytest
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig
from detectron2.modeling import build_model
from omegaconf import OmegaConf
from torch import nn

from helpers.builders import small_config
from smca import model_zoo
from smca.checkpoint import ModelInfo, build_model_from_info, model_info_from_lazy
from smca.config import cfg_from_lazy
from smca.description import allowed_targets
from smca.description.allowed_targets import allow_target, allow_targets_of, check_targets
from smca.description.model_data import lazy_model_as_data
from smca.errors import InputError
from smca.experiments import load_experiment

BAD = [
    "os.system",
    "posix.system",
    "builtins.eval",
    "eval",
    "subprocess.Popen",
    "torch.load",
    "smca.modeling.smca_detr.torch.load",
    "smca.modeling.smca_detr.SMCA.__init__.__globals__",
    "smca.modeling.SMCA.from_config",
    "smca.config.json.loads",
    "detectron2.utils.registry.locate",
    "detectron2.config.instantiate",
    "detectron2.modeling.ResNet.make_default_stages.__globals__",
    "detectron2.model_zoo.get",
    "smca.modeling",
    "smca.modeling.SMCA ",
    "antigravity",
    "",
    None,
    3,
    ["os.system"],
    {"_target_": "smca.modeling.SMCA"},
]


class Loud(nn.Module):
    """A part of a user's own."""

    def __init__(self, **options):
        super().__init__()


class Quiet(Loud):
    """Another one."""


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """What a test trusts, by loading a config, too, is trusted by that test only."""
    parts = allowed_targets._PARTS.items()
    shipped = {
        target
        for module, names in parts
        for name in names
        for target in allowed_targets.names_of(module, name)
    }
    monkeypatch.setattr(allowed_targets, "_ALLOWED", shipped)


@pytest.fixture(scope="module")
def model():
    return lazy_model_as_data(small_config("smca_single_scale"))


@pytest.mark.parametrize("name", model_zoo.list_configs())
def test_shipped_models_pass(name):
    # Not by get_config, which trusts them.
    cfg = LazyConfig.load(model_zoo.get_config_file(name))
    check_targets(lazy_model_as_data(cfg.model))


def test_every_allowed_name_that_resolves_is_the_part_itself():
    """An alias must not lead anywhere else."""
    for module, names in allowed_targets._PARTS.items():
        for name in names:
            part = pydoc.locate(f"{module}.{name}")
            assert callable(part), name
            for alias in allowed_targets.names_of(module, name):
                assert pydoc.locate(alias) in (part, None) or pydoc.locate(alias) == part, alias


@pytest.mark.parametrize("target", BAD, ids=str)
@pytest.mark.parametrize(
    "place", [(), ("backbone",), ("criterion", "matcher", "classification"), ("new", 0, "deep")]
)
def test_others_do_not(model, target, place):
    node = bad = copy.deepcopy(model)
    if place and place[0] == "new":
        bad["new"] = [{"deep": {}}]
    for key in place:
        node = node[key]
    node["_target_"] = target
    with pytest.raises(ValueError, match=r"its config names .*_target_") as error:
        check_targets(bad)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="its config names"):
        build_model_from_info(ModelInfo(model=bad))


def test_nothing_is_imported_or_called(model, tmp_path):
    canary = tmp_path / "canary"
    bad = copy.deepcopy(model)
    bad["backbone"] = {"_target_": "os.system", "command": f"touch {canary}"}
    cfg = model_zoo.get_cfg("digits/smca_single_scale")
    for node in (bad, {"_target_": "smca.modeling.SMCA", "backbone": bad["backbone"]}):
        for architecture in ("SMCA", "LazyModel"):
            cfg.MODEL.META_ARCHITECTURE = architecture
            cfg.MODEL.SMCA.LAZY_MODEL = json.dumps(node)
            with pytest.raises(ValueError, match=r"LAZY_MODEL: its config names 'os\.system'"):
                build_model(cfg)
    assert not canary.exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '"os.system"', "[" * 100_000, '{"a": 1}', '{"_target_": "os.system"}']
)
def test_unreadable_model_of_a_cfg_node(text):
    cfg = model_zoo.get_cfg("digits/smca_single_scale")
    cfg.MODEL.SMCA.LAZY_MODEL = text
    with pytest.raises(ValueError, match="LAZY_MODEL"):
        build_model(cfg)


def test_interpolations_and_nested_configs_are_refused(model):
    for key, value, words in (
        ("input_format", "${oc.env:HOME}", "interpolation in model.input_format"),
        ("pixel_mean", ["${oc.env:HOME}"], "interpolation"),
        ("cfg", {"MODEL": {}}, "model.cfg"),
        ("pixel_std", {1: 2}, "no text"),
        ("pixel_std", object(), "not plain data"),
    ):
        with pytest.raises(ValueError, match=words):
            check_targets({**model, key: value})


def test_deep_nesting_is_no_recursion(model):
    deep = {}
    for _ in range(50_000):
        deep = {"a": deep}
    check_targets({**model, "backbone": deep})


def test_own_parts_are_trusted_when_asked_for(model):
    name = f"{__name__}.Loud"
    own = {**model, "backbone": {"_target_": name}}
    with pytest.raises(ValueError, match="if it is yours and you trust the file"):
        check_targets(own)
    allow_target(name)
    check_targets(own)


def test_parts_of_a_config_loaded_from_python_are_trusted(model):
    lazy = model_zoo.get_config("digits/smca_single_scale")
    lazy.model.criterion = L(Loud)(weight=1)
    own = lazy_model_as_data(lazy.model)
    with pytest.raises(ValueError, match="Loud"):
        check_targets(own)
    assert json.loads(cfg_from_lazy(lazy).MODEL.SMCA.LAZY_MODEL) == own
    check_targets(own)


def test_describing_a_model_trusts_nothing(model):
    lazy = model_zoo.get_config("digits/smca_single_scale")
    lazy.model.criterion = L(Quiet)()
    info = model_info_from_lazy(lazy)
    with pytest.raises(InputError, match=r"Quiet. in model\.criterion"):
        build_model_from_info(info)


def test_loading_an_experiment_trusts_its_parts(model, tmp_path):
    """Those of the file, and those that the command line names."""
    path = tmp_path / "own.py"
    path.write_text(
        "from detectron2.config import LazyCall as L\nfrom smca import model_zoo\n"
        "cfg = model_zoo.get_config('digits/smca_single_scale')\n"
        "cfg.model.postprocessor._target_ = 'of_a_file.Part'\n"
        "model, dataloader, train = cfg.model, cfg.dataloader, cfg.train\n"
        "optimizer, lr_multiplier = cfg.optimizer, cfg.lr_multiplier\n"
    )
    cfg = load_experiment(str(path), ["model.heads={_target_: of_a_command.Part}"])
    check_targets(lazy_model_as_data(cfg.model))


def test_trusting_a_whole_config(model):
    allow_targets_of(OmegaConf.create({"a": [{"_target_": "my.Part"}, {"_target_": 3}]}))
    check_targets({**model, "backbone": {"_target_": "my.Part"}})


def test_a_description_builds_the_same_model():
    lazy = model_zoo.get_config("digits/smca_single_scale")
    info = model_info_from_lazy(lazy, config_name="digits/x", class_names=["a", "b"])
    assert (info.min_size_test, info.max_size_test) == (128, 128)
    assert (info.config_name, info.class_names) == ("digits/x", ("a", "b"))
    assert set(info.versions) == {"smca", "torch", "detectron2"}
    built = build_model_from_info(ModelInfo.from_json(info.to_json()))
    assert not built.training
    assert built.num_classes == 10
    assert built.decoder.query_embedding.weight.shape == (20, 128)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"surprise": 1}, "cannot be built: .*surprise"),
        ({"backbone": None}, "cannot be built"),
        ({"pixel_mean": "x"}, "pixel_mean is .'x'., it must have a number per channel, 3"),
        ({"pixel_mean": [1.0, 2.0, 3.0, 4.0]}, r"pixel_mean is .*4\.0., it must have a number"),
        ({"pixel_std": [1.0, 0.0, 3.0]}, "its numbers must be positive"),
        ({"postprocessor": None}, "postprocessor is None, it must be callable"),
        ({"heads": "abc"}, "heads is 'abc', it must be callable"),
        # Whatever a message says of it, it is one short sentence.
        ({"pixel_mean": [["x\n\x1b[31m"] * 90] * 90}, r"\.\.\.$"),
    ],
)
def test_arguments_that_do_not_fit(model, change, words):
    with pytest.raises(ValueError, match=words) as error:
        build_model_from_info(ModelInfo(model={**model, **change}))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("decoder", "num_queries", 20_000_000),
        ("decoder", "num_layers", 10**9),
        ("decoder", "num_layers", 101),
        ("decoder", "num_layers", -1),
        ("decoder", "num_layers", True),
        ("encoder", "num_heads", 2.5),
        ("encoder", "ffn_dim", 10**6),
        ("backbone", "stem_channels", 10**400),
        ("criterion", "box_weight", float("nan")),
        ("criterion", "box_weight", 10**10),
        ("neck", "strides", [16] * 101),
    ],
)
def test_numbers_that_no_model_has(model, part, field, value):
    """They are refused before anything is built, which would take all memory or hours."""
    changed = copy.deepcopy(model)
    changed[part][field] = value
    with pytest.raises(ValueError, match=rf"in model\.{part}\.{field}"):
        check_targets(changed)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("encoder", "num_points", 101),
        ("encoder", "num_layers", 101),
        ("decoder.queries", "num_queries", 10**6),
        ("decoder.layer.co_attention", "num_points", 10**6),
        ("decoder.refinement", "num_layers", 10**6),
    ],
)
def test_numbers_that_no_deformable_detr_has(part, field, value):
    changed = lazy_model_as_data(small_config("deformable_detr_two_stage"))
    node = changed
    for name in part.split("."):
        node = node[name]
    node[field] = value
    with pytest.raises(ValueError, match=rf"in model\.{part}\.{field}"):
        check_targets(changed)


def test_a_description_of_no_model(model):
    with pytest.raises(ValueError, match="not a model"):
        build_model_from_info(ModelInfo(model=model["postprocessor"]))
