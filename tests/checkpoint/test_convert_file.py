import argparse
import importlib.util
import json
import re
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18, resnet50

from helpers.builders import ROOT, draw_parameters, small_config, small_model
from smca.checkpoint import load_initial_weights, read_model_file
from smca.checkpoint.conversion.class_columns import ABSENT_BIAS
from smca.checkpoint.conversion.convert_released import convert_released, convert_to_released
from smca.checkpoint.file_formats import write_checkpoint
from smca.model_zoo.convert_file import convert_file, convert_state_dict

CATEGORY_IDS = [c["id"] for c in COCO_CATEGORIES if c["isthing"]]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location(
        "convert_checkpoint_tool", ROOT / "tools" / "convert_checkpoint.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def released(name="detr_published", num_classes=80, columns=92):
    """A small detector of ours under the released names, and the model it was."""
    model = small_model(name, num_classes=num_classes)
    state = convert_state_dict(
        model.state_dict(), to_released=True, class_columns=columns
    ).state_dict
    return state, model


def save(content, path: Path) -> Path:
    torch.save(content, path)
    return path


def assert_equal_tensors(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def without_counters(state):
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", ["detr_published", "smca_single_scale"])
def test_to_released_names_and_back_gives_the_same_tensors(name):
    state, model = released(name)

    assert "transformer.encoder.layers.1.linear2.weight" in state
    assert ("transformer.decoder.layers.1.point3.bias" in state) == (name == "smca_single_scale")
    back = convert_released(state, 80)
    assert_equal_tensors(back, without_counters(model.state_dict()))


def test_released_names_are_those_of_the_release():
    keys = json.loads((ROOT / "tests/reference/released_smca_single_scale_keys.json").read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape in keys.items()}

    back = convert_to_released(convert_released(state, num_classes=92))

    assert {name: list(tensor.shape) for name, tensor in back.items()} == keys


def test_no_object_class_becomes_the_last_of_92_columns():
    state, model = released("detr_published")

    bias, ours = state["class_embed.bias"], model.heads.classifier.bias
    assert torch.equal(bias[CATEGORY_IDS], ours[:80])
    assert bias[91] == ours[80]
    absent = sorted(set(range(91)) - set(CATEGORY_IDS))
    assert len(absent) == 11
    assert set(bias[absent].tolist()) == {ABSENT_BIAS}
    assert not state["class_embed.weight"][absent].any()
    assert state["class_embed.weight"][CATEGORY_IDS].any(dim=1).all()


@pytest.mark.parametrize("columns", [91, 92])
def test_columns_without_a_class_are_never_predicted(columns):
    state, model = released("smca_single_scale", columns=columns)

    hidden = 100 * torch.randn(5, 16)
    scores = (hidden @ state["class_embed.weight"].T + state["class_embed.bias"]).sigmoid()

    absent = sorted(set(range(columns)) - set(CATEGORY_IDS))
    assert scores.shape == (5, columns)
    assert scores[:, absent].max() < 1e-30
    assert torch.equal(scores[:, CATEGORY_IDS], model.heads.classifier(hidden).sigmoid())


def test_no_object_has_no_room_in_91_columns():
    with pytest.raises(ValueError, match=r"'heads\.classifier\.\w+' .* takes 92 .*not 91"):
        released("detr_published", columns=91)


def test_other_classes_than_cocos_have_no_category_ids():
    with pytest.raises(ValueError, match=r"'heads\.classifier\.\w+' has 20 class columns"):
        released("smca_single_scale", num_classes=20)


def test_the_full_model_has_no_released_names():
    state = small_model("smca").state_dict()

    with pytest.raises(ValueError, match=r"neck\.level_embedding") as error:
        convert_state_dict(state, to_released=True)
    message = str(error.value)
    assert "'neck.projections.2.weight'" in message
    assert "'decoder.modulation.layers.1.level_selection.bias'" in message
    assert "\n" not in message


def test_every_tensor_without_a_place_is_named():
    state, _ = released()
    state["mask_head.weight"] = state["bbox_attention.bias"] = torch.zeros(2)

    with pytest.raises(ValueError, match=r"mask_head\.weight.*bbox_attention\.bias"):
        convert_state_dict(state)


def test_a_released_file_is_loaded_by_both_loaders(tmp_path):
    state, source = released("smca_single_scale")
    content = {"model": state, "args": argparse.Namespace(lr=1e-4), "epoch": 50}
    target = tmp_path / "ours.pth"

    conversion = convert_file(save(content, tmp_path / "in.pth"), target)

    assert conversion.kind == "released detector"
    assert conversion.left_out == []
    config = small_config("smca_single_scale", num_classes=80)
    for load in (
        load_initial_weights,
        lambda model, path: DetectionCheckpointer(model).load(path),
    ):
        model = draw_parameters(instantiate(config), seed=9)
        load(model, str(target))
        assert_equal_tensors(
            without_counters(model.state_dict()), without_counters(source.state_dict())
        )


def test_a_torchvision_resnet_gives_the_backbone_and_names_what_is_left_out(tool, tmp_path, capsys):
    theirs = resnet18()
    source = save(theirs.state_dict(), tmp_path / "resnet18.pth")
    target = tmp_path / "backbone.pth"

    assert tool.main([str(source), str(target)]) == 0

    printed = capsys.readouterr().out
    assert "fc.weight, fc.bias" in printed
    assert "20 tensors num_batches_tracked" in printed
    weights = torch.load(target, weights_only=True)["model"]
    assert len(weights) == len(theirs.state_dict()) - 2 - 20
    assert torch.equal(
        weights["backbone.res3.0.shortcut.weight"], theirs.layer2[0].downsample[0].weight
    )
    assert torch.equal(weights["backbone.res5.1.conv2.norm.bias"], theirs.layer4[1].bn2.bias)


@pytest.mark.parametrize("name", ["smca_r50_50ep", "detr_dc5_r50_500ep"])
def test_a_resnet50_fits_the_zoos_backbones(name, tool, tmp_path, capsys):
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in resnet50().state_dict().items()}
    state = {k: torch.zeros(shape) for k, shape in shapes.items()}
    source = save(state, tmp_path / "in.pth")

    assert tool.main([str(source), str(tmp_path / "out.pth"), "--config", name]) == 0
    assert f"those of {name}." in capsys.readouterr().out

    del state["layer3.0.conv2.weight"]
    state["layer3.6.conv1.weight"] = state["conv1.weight"]
    state["bn1.bias"] = torch.zeros(32)
    save(state, source)
    assert tool.main([str(source), str(tmp_path / "bad.pth"), "--config", name]) == 1
    error = capsys.readouterr().err
    assert "1 tensors missing in it (backbone.res4.0.conv2.weight)" in error
    assert "1 tensors that the model does not have (backbone.res4.6.conv1.weight)" in error
    assert "of another shape (backbone.stem.conv1.norm.bias (32,) instead of (64,))" in error
    assert not (tmp_path / "bad.pth").exists()


def test_a_config_says_classes_and_no_object():
    """A DETR with focal loss cannot be told from a published one by its names."""
    state, model = released("detr", columns=92)
    config = small_config("detr", num_classes=80, norm="FrozenBN")

    converted = convert_state_dict(state, model_config=config).state_dict

    assert_equal_tensors(converted, without_counters(model.state_dict()))
    config.num_classes = 20
    with pytest.raises(ValueError, match="num_classes=20"):
        convert_state_dict(state, model_config=config)


def test_ours_is_checked_before_it_is_turned_back():
    model = small_model("detr", num_classes=80)
    config = small_config("detr", num_classes=80)
    assert convert_state_dict(model.state_dict(), model_config=config, to_released=True).state_dict

    config.decoder.num_queries = 8
    words = r"of another number of rows \(decoder\.query_embedding\.weight: 7 rows of 7 for 8\)"
    with pytest.raises(ValueError, match=words):
        convert_state_dict(model.state_dict(), model_config=config, to_released=True)


def test_class_columns_alone_keep_our_names():
    state = small_model("smca", num_classes=80).state_dict()

    converted = convert_state_dict(state, class_columns=91)

    assert converted.state_dict.keys() == state.keys()
    assert len(converted.state_dict["heads.classifier.bias"]) == 91
    assert len(state["heads.classifier.bias"]) == 80
    assert converted.batch_counters == 0


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: small_model("detr").state_dict(), {}, "nothing to convert"),
        (lambda: released()[0], {"to_released": True}, "released detector, whose names"),
        (lambda: released()[0], {"class_columns": 91}, "only the class columns of a detector of"),
        (lambda: resnet18().state_dict(), {"class_columns": 91}, "torchvision ResNet; only"),
        (lambda: {"a.b": torch.zeros(1)}, {}, r"first tensors are a\.b"),
    ],
)
def test_a_conversion_that_makes_no_sense_is_an_error(make, options, words):
    with pytest.raises(ValueError, match=words):
        convert_state_dict(make(), **options)


def _write_cut(path):
    whole = save({"model": released()[0]}, path.with_name("whole.pth")).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_write_cut, "cannot be read as a checkpoint"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_text("no checkpoint\n" * 9), "cannot be read as a checkpoint"),
        (lambda path: save(nn.Linear(1, 1), path), "holds more than tensors.*Linear"),
        (lambda path: save([torch.zeros(1)], path), "holds no state dict"),
        (lambda path: save({"model": {}}, path), "holds no state dict"),
        (lambda path: save({"model": {"a": 1}}, path), "holds no state dict"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "does not exist"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_one_sentence(write, words, tool, tmp_path, capsys):
    source = tmp_path / "in.pth"
    write(source)

    assert tool.main([str(source), str(tmp_path / "out.pth")]) == 1

    error = capsys.readouterr().err
    assert re.search(words, error)
    assert "in.pth" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()


def test_code_in_a_file_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    source = save({"model": released()[0], "extra": Bomb()}, tmp_path / "in.pth")

    with pytest.raises(ValueError, match="holds more than tensors"):
        read_model_file(source)
    assert not (tmp_path / "exploded").exists()


def test_safetensors_and_wrapped_names_are_read(tmp_path):
    state = {"module.a.weight": torch.randn(2, 3), "module.a.bias": torch.randn(2)}
    save_file(state, tmp_path / "in.safetensors")
    save({"state_dict": state}, tmp_path / "in.pth")

    expected = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    assert_equal_tensors(read_model_file(tmp_path / "in.safetensors").state_dict, expected)
    assert_equal_tensors(read_model_file(tmp_path / "in.pth").state_dict, expected)

    (tmp_path / "in.safetensors").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"in\.safetensors cannot be read as safetensors"):
        read_model_file(tmp_path / "in.safetensors")
    (tmp_path / "in.pkl").touch()
    with pytest.raises(ValueError, match=r"Detectron2's \.pkl files are not converted"):
        convert_file(tmp_path / "in.pkl", tmp_path / "out.pth")


def test_an_output_is_not_overwritten_unless_asked(tool, tmp_path, capsys):
    source = save(released()[0], tmp_path / "in.pth")
    target = tmp_path / "out.pth"
    target.write_text("precious")

    assert tool.main([str(source), str(target)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert target.read_text() == "precious"

    assert tool.main([str(source), str(target), "--force"]) == 0
    assert "heads.classifier.bias" in torch.load(target, weights_only=True)["model"]


@pytest.mark.parametrize(
    ("target", "words"),
    [("out.pkl", r"\.pth or \.pt"), ("nowhere/out.pth", "nowhere does not exist")],
)
def test_an_output_that_cannot_be_written_is_refused_at_once(target, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        convert_file(tmp_path / "not read yet.pth", tmp_path / target)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "out.pth"
    write_checkpoint(target, {"a": torch.ones(2)})

    def save_half(content, path):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", save_half)
    with pytest.raises(OSError, match="disk full"):
        write_checkpoint(target, {"a": torch.zeros(2)}, overwrite=True)

    assert torch.load(target, weights_only=True)["model"]["a"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.pth"]


def test_an_unknown_config_and_a_wrong_number_of_classes_are_one_sentence(tool, tmp_path, capsys):
    source = str(save(released()[0], tmp_path / "in.pth"))
    for options, words in (
        (["--config", "smca_r5"], "no config named 'smca_r5'"),
        (["--config", "custom_coco"], "custom_coco takes its number of classes from your data"),
        (["--num-classes", "20"], "92 class columns"),
        (["--num-classes", "92"], "92 class columns"),
    ):
        assert tool.main([source, str(tmp_path / "out.pth"), *options]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    options = ["--num-classes", "92", "--no-object-class", "no"]
    assert tool.main([source, str(tmp_path / "out.pth"), *options]) == 0


def test_released_weights_for_a_model_without_a_classification(tool, tmp_path, capsys):
    """Detectron2's own; that is no bug of the tool, but the wrong config."""
    source = save({"model": released()[0]}, tmp_path / "in.pth")
    target = tmp_path / "out.pth"
    assert tool.main([str(source), str(target), "--config", "digits/faster_rcnn"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert not target.exists()
