"""Every experiment, cheaply: on the meta device, where a model has names and shapes only."""

import functools
import json
import re
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from omegaconf import OmegaConf

from helpers.checkpoints import CLASS_NAMES, zoo_checkpoint
from smca import add_smca_config, model_zoo
from smca.checkpoint import ModelInfo
from smca.description.model_data import lazy_model_as_data
from smca.errors import InputError
from smca.experiments import config_file
from smca.modeling import SMCA
from smca.modeling.encoder import parse_blocks

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = [
    "smca_r50_50ep",
    "smca_r50_108ep",
    "smca_r101_50ep",
    "smca_single_scale_r50_50ep",
    "smca_single_scale_r50_108ep",
    "detr_r50_50ep",
    "detr_r50_500ep",
    "detr_dc5_r50_500ep",
    "detr_r101_500ep",
    "detr_dc5_r101_500ep",
    "ablations/head_shared_bs8",
    "ablations/head_shared_bs16",
    "ablations/head_shared_bs32",
    "ablations/multi_head_fixed",
    "ablations/multi_head_single",
    "ablations/no_scale_selection",
    "ablations/encoder_3intra",
    "ablations/encoder_3multi",
    "ablations/encoder_5intra",
    "ablations/encoder_shared_ffn",
    "ablations/encoder_shared_sa",
    "ablations/encoder_no_share",
    "faster_rcnn_fpn_r50_3x",
    "deformable_detr_single_scale_r50_50ep",
    "deformable_detr_r50_50ep",
    "deformable_detr_refine_r50_50ep",
    "deformable_detr_two_stage_r50_50ep",
    "deformable_detr_r50_150ep",
    "up_detr_r50_150ep",
    "up_detr_r50_300ep",
    "digits/deformable_detr",
    "digits/smca",
    "digits/smca_single_scale",
    "digits/detr",
    "digits/faster_rcnn",
]
every_config = pytest.mark.parametrize("name", model_zoo.list_configs())
RUN = ("digits/smca", "digits/smca_single_scale", "digits/detr", "digits/faster_rcnn",
       "digits/deformable_detr", "digits/deformable_detr_two_stage", "smca_r50_50ep", "detr_r50_500ep")  # fmt: skip


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def on_meta(node) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return shapes(instantiate(node))


@functools.cache
def expected_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return on_meta(model_zoo.get_config(name).model)


def build_on_meta(cfg: CfgNode) -> dict[str, tuple[int, ...]]:
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return shapes(build_model(cfg))


def test_lists_the_experiments_and_no_shared_parts():
    names = model_zoo.list_configs()
    assert set(EXPERIMENTS) <= set(names)
    assert names == sorted(set(names))
    assert not [n for n in names if n.startswith(("common", "models")) or "__" in n]
    for name in names:
        assert Path(model_zoo.get_config_file(name)) == CONFIGS / f"{name}.py"


def test_finds_the_configs_of_an_installation(tmp_path, monkeypatch):
    for file in ("__init__.py", "one.py", "common/base.py", "models/base.py", "deep/__init__.py",
                 "deep/two.py", "notes.txt"):  # fmt: skip
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setattr(config_file.resources, "files", {"smca.configs": tmp_path}.get)
    assert model_zoo.list_configs() == ["deep/two", "one"]
    assert model_zoo.get_config_file("deep/two") == str(tmp_path / "deep" / "two.py")


def test_finds_the_configs_of_the_source_tree(monkeypatch):
    def fail(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(config_file.resources, "files", fail)
    assert Path(model_zoo.get_config_file("smca_r50_50ep")) == CONFIGS / "smca_r50_50ep.py"


@pytest.mark.parametrize("ask", [model_zoo.get_config, model_zoo.get_cfg, model_zoo.get,
                                 model_zoo.get_checkpoint_url])  # fmt: skip
@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("smca_r50_50epochs", "smca_r50_50ep"),
        ("encoder_3multi", "ablations/encoder_3multi"),
        ("configs/smca_r101_50ep.py", "smca_r101_50ep"),
        ("qq", "there are ablations/"),
    ],
)
def test_unknown_name(ask, name, near):
    with pytest.raises(ValueError, match=f"no config named '{name}'") as error:
        ask(name)
    assert near in str(error.value)


def test_no_weights_are_published_yet():
    with pytest.raises(ValueError, match="no trained weights of 'smca_r50_50ep'"):
        model_zoo.get_checkpoint_url("smca_r50_50ep")
    with pytest.raises(ValueError, match="no trained weights"):
        model_zoo.get("smca_r50_50ep", trained=True)


def test_get_builds_the_model():
    model = model_zoo.get("digits/smca")
    assert model.training
    assert model.num_classes == 10
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@every_config
def test_an_experiment_is_whole(name):
    cfg = model_zoo.get_config(name)
    assert {"model", "dataloader", "optimizer", "lr_multiplier", "train"} <= set(cfg)
    # Every experiment writes to a directory of its own.
    assert Path(cfg.train.output_dir) == Path("output") / name.replace("digits/", "digits_")
    OmegaConf.to_container(cfg, resolve=True)


@every_config
def test_round_trip_through_yaml(name, tmp_path):
    cfg = model_zoo.get_config(name)
    file = tmp_path / "experiment.yaml"
    LazyConfig.save(cfg, str(file))
    # Detectron2 falls back to a pickle for what yaml cannot hold.
    assert list(tmp_path.iterdir()) == [file]
    loaded = LazyConfig.load(str(file))
    # Equal but for targets, which became names.
    assert lazy_model_as_data(loaded) == lazy_model_as_data(cfg)
    assert on_meta(loaded.model) == expected_shapes(name)


@every_config
def test_cfg_node_builds_the_same_model(name, tmp_path):
    cfg = model_zoo.get_cfg(name)
    file = tmp_path / "cfg.yaml"
    file.write_text(cfg.dump())
    reloaded = get_cfg()
    add_smca_config(reloaded)
    reloaded.merge_from_file(str(file))
    assert reloaded.MODEL.SMCA == cfg.MODEL.SMCA
    assert build_on_meta(reloaded) == expected_shapes(name)


@every_config
def test_cfg_node_says_how_images_go_in(name):
    # A file that is not there is Detectron2's to miss.
    cfg, lazy = model_zoo.get_cfg(name, weights="somewhere.pth"), model_zoo.get_config(name)
    resize = lazy.dataloader.test.mapper.augmentations[0]
    assert cfg.MODEL.WEIGHTS == "somewhere.pth"
    assert (
        resize.short_edge_length,
        resize.max_size,
    ) == (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    assert (lazy.dataloader.test.dataset.names,) == cfg.DATASETS.TEST
    assert lazy.dataloader.test.mapper.image_format == cfg.INPUT.FORMAT
    assert lazy.dataloader.train.mapper.image_format == cfg.INPUT.FORMAT
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 100
    assert (cfg.MODEL.META_ARCHITECTURE == "LazyModel") == ("faster_rcnn" in name)


@pytest.mark.parametrize("name", RUN)
def test_cfg_node_model_computes_the_same(name):
    lazy = instantiate(model_zoo.get_config(name).model).eval()
    cfg = model_zoo.get_cfg(name)
    cfg.MODEL.DEVICE = "cpu"
    built = build_model(cfg).eval()
    assert type(built) is type(lazy)
    built.load_state_dict(lazy.state_dict())
    images = [
        {"image": torch.randint(256, size, dtype=torch.uint8)}
        for size in ((3, 64, 50), (3, 40, 64))
    ]
    with torch.no_grad():
        outputs = [[o["instances"] for o in model(images)] for model in (lazy, built)]
    for a, b in zip(*outputs, strict=True):
        assert len(a) == len(b)
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        assert torch.equal(a.scores, b.scores)
        assert torch.equal(a.pred_classes, b.pred_classes)
    if "faster_rcnn" not in name:
        assert len(outputs[0][0]) == 100


@pytest.mark.parametrize("name", ["digits/custom_coco", "custom_coco_small"])
def test_a_config_for_data_of_ones_own_has_no_classes_yet(name):
    for ask in (model_zoo.get_cfg, model_zoo.get):
        with pytest.raises(
            ValueError, match=f"config {name} takes its number of classes from your data"
        ):
            ask(name)


@pytest.mark.parametrize("name", ["digits/custom_coco", "digits/smca_single_scale", "digits/smca"])
def test_the_checkpoint_says_which_model_and_classes(name, own_checkpoint):
    path = own_checkpoint(name)
    cfg = model_zoo.get_cfg(name, weights=path)
    cfg.MODEL.DEVICE = "cpu"
    assert (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == (64, 96)
    predictor = DefaultPredictor(cfg)
    assert predictor.model.num_classes == 3
    assert predictor.metadata.thing_classes == list(CLASS_NAMES)
    expected = torch.load(path, weights_only=True)["model"]
    found = predictor.model.state_dict()
    assert [k for k, v in expected.items() if not torch.equal(found[k], v)] == []


@pytest.mark.parametrize(
    ("name", "given", "changes", "words"),
    [
        ("smca_r50_50ep", "digits/smca", {}, "digits/smca: model.encoder"),
        (
            "digits/smca_single_scale",
            "digits/detr",
            {},
            "missing in it (decoder.",
        ),
        (
            "digits/detr",
            "digits/smca_single_scale",
            {},
            "that the model does not have (decoder.",
        ),
        (
            "digits/custom_coco",
            "digits/smca_single_scale",
            {"decoder__num_queries": 7},
            "7 rows of 7 for 20); the model that they describe is taken",
        ),
        (
            "digits/smca",
            "digits/smca",
            {"encoder__blocks": "2Intra"},
            "model.encoder.blocks is 2Intra, not ",
        ),
    ],
)
def test_weights_of_another_architecture_than_the_name(
    name, given, changes, words, own_checkpoint, caplog
):
    path = own_checkpoint(given, **changes)
    with caplog.at_level("WARNING", "smca"):
        cfg = model_zoo.get_cfg(name, weights=path)
    (record,) = caplog.records
    said = record.getMessage()
    assert said.startswith(f"weights {path} are of another model than {name}")
    assert words in said
    assert "\n" not in said
    # What the file describes counts, and so the model is whole.
    cfg.MODEL.DEVICE = "cpu"
    assert isinstance(build_model(cfg), SMCA)


def test_what_is_no_architecture_may_differ(own_checkpoint, caplog):
    blocks = parse_blocks(model_zoo.get_config("digits/smca").model.encoder.blocks)
    changes = {
        "encoder__blocks": blocks,
        "encoder__dropout": 0.3,
        "postprocessor__max_detections": 7,
    }
    path = own_checkpoint("digits/smca", backbone__norm="GN", **changes)
    with caplog.at_level("WARNING", "smca"):
        model_zoo.get_cfg("digits/smca", weights=path)
        assert re.search(r"missing in it \(backbone\..*running", caplog.text)
        caplog.clear()
        path = own_checkpoint("digits/smca", backbone__norm="FrozenBN", **changes)
        cfg = model_zoo.get_cfg("digits/smca", weights=path)
        assert not caplog.records
    assert cfg.TEST.DETECTIONS_PER_IMAGE == 7


def test_weights_that_give_no_classes_say_why(tmp_path):
    name = "digits/custom_coco"
    picture = tmp_path / "a.jpg"
    picture.write_bytes(b"no checkpoint")
    undescribed = plain_weights(tmp_path / "plain.pth")
    for weights, words in {
        tmp_path / "gone.pth": "does not exist",
        tmp_path: "is a folder",
        picture: r"a\.jpg",
        undescribed: "plain.pth does not describe its model, give weights=",
    }.items():
        with pytest.raises(ValueError, match=words) as caught:
            model_zoo.get_cfg(name, weights=str(weights))
        assert ("takes its number of classes" in str(caught.value)) == (weights == undescribed)
        assert str(weights) in str(caught.value)
        # Told when a model is built, as with weights that are set later.
        if weights != undescribed:
            model_zoo.get_cfg("digits/smca", weights=str(weights))


def test_a_strangers_description_is_not_trusted(tmp_path):
    info = ModelInfo(model={"_target_": "os.system", "command": "true"})
    torch.save({"model": {"a": torch.zeros(1)}, "smca": info.to_json()}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match=r"its config names 'os\.system'"):
        model_zoo.get_cfg("digits/smca", weights=str(tmp_path / "bad.pth"))


def plain_weights(path, drop=(), **changes) -> str:
    state = model_zoo.get("digits/smca_single_scale").state_dict()
    state = {k: v for k, v in state.items() if not k.startswith(tuple(drop))}
    torch.save({**state, **changes}, path)
    return str(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drop": ["heads.classifier"]}, "tensors missing in it (heads.classifier.weight"),
        (
            {"heads.classifier.bias": torch.zeros(4)},
            "tensors of another shape (heads.classifier.bias",
        ),
        ({"drop": ["neck", "encoder", "decoder", "heads"]}, "tensors missing in it (neck."),
        ({"more.weight": torch.zeros(1)}, "tensors that the model does not have (more.weight"),
    ],
)
def test_weights_that_leave_parts_random_are_refused(options, words, tmp_path):
    path = plain_weights(tmp_path / "w.pth", **options)
    with pytest.raises(
        ValueError, match="do not fill the model of digits/smca_single_scale"
    ) as caught:
        model_zoo.get_cfg("digits/smca_single_scale", weights=path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits/smca", "digits/faster_rcnn"])
def test_they_are_refused_in_an_edited_cfg_node_too(name, tmp_path):
    cfg = model_zoo.get_cfg(name)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = plain_weights(tmp_path / "w.pth")
    for build in (build_model, DefaultPredictor):
        with pytest.raises(
            ValueError, match=f"is not of the model of {name}: .* tensors missing in it"
        ):
            build(cfg)
    # A training starts from a backbone.
    cfg = model_zoo.get_cfg("digits/smca_single_scale")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = plain_weights(
        tmp_path / "b.pth", drop=["neck", "encoder", "decoder", "heads"]
    )
    assert build_model(cfg).num_classes == 10


@pytest.mark.parametrize("value", [None, 3, "x"])
def test_a_description_without_the_means_of_pixels(value, tmp_path):
    path = zoo_checkpoint(tmp_path / "w.pth", "digits/smca_single_scale")
    content = torch.load(path, weights_only=True)
    info = json.loads(content["smca"])
    info["model"]["pixel_mean"] = value
    torch.save(content | {"smca": json.dumps(info)}, path)
    with pytest.raises(InputError, match="the model of its config cannot be built"):
        model_zoo.get_cfg("digits/smca_single_scale", weights=str(path))
