"""Starting from a checkpoint of other classes, queries or format: what is carried over, and what is said about it."""

import logging
import pickle

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from torch import nn

from helpers.builders import draw_parameters, small_config, small_model
from smca.checkpoint import ModelInfo, frozen_norm_without_weights, load_initial_weights
from smca.checkpoint.conversion.class_columns import COCO_CLASS_NAMES
from smca.checkpoint.loading.class_rows import NamedClasses
from smca.model_zoo.convert_file import convert_file, convert_state_dict
from smca.modeling import build_resnet

NAMES = ("cat", "dog", "bird")
WEIGHT, BIAS = "heads.classifier.weight", "heads.classifier.bias"
QUERIES = "decoder.query_embedding.weight"


def tensors(model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def save(model, path, *, names=NAMES, **entries) -> str:
    content = {"model": tensors(model), **entries}
    if names is not None:
        content["smca"] = ModelInfo(model={"_target_": "x"}, class_names=names).to_json()
    torch.save(content, path)
    return str(path)


def target(name="smca_single_scale", seed=5, **options) -> nn.Module:
    return draw_parameters(small_model(name, **options), seed=seed)


def log_line(caplog, words: str) -> str:
    (line,) = [r.getMessage() for r in caplog.records if words in r.getMessage()]
    return line


@pytest.mark.parametrize("name", ["smca_single_scale", "detr_published"])
@pytest.mark.parametrize(
    ("names", "rows", "message"),
    [
        (("dog", "cat", "bird"), (1, 0, 2), "3 of 3 classes carried over by name: dog, cat, bird"),
        (("Bird ", "CAT"), (2, 0), "2 of 2 classes"),
        (("cow", "dog", "cat", "sheep"), (None, 1, 0, None),
         "2 of 4 classes carried over by name: dog, cat; new, left as initialised: cow, sheep"),
        (("cow", "sheep", "pig"), (None,) * 3, "0 of 3 classes carried over by name: -"),
        (("cow",), (None,), "0 of 1"),
    ],
)  # fmt: skip
def test_rows_follow_the_names(name, names, rows, message, tmp_path, caplog):
    source, model = small_model(name), target(name, num_classes=len(names))
    given, before = tensors(source), tensors(model)
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(model, save(source, tmp_path / "w.pth"), class_names=names)
    after = tensors(model)
    for leaf in (WEIGHT, BIAS):
        for row, from_row in enumerate(rows):
            expected = before[leaf][row] if from_row is None else given[leaf][from_row]
            assert torch.equal(after[leaf][row], expected), (leaf, row)
        assert len(after[leaf]) == len(names) + (name == "detr_published")
        if name == "detr_published":
            assert torch.equal(after[leaf][-1], given[leaf][-1])
    others = [k for k in after if k not in (WEIGHT, BIAS)]
    assert [k for k in others if not torch.equal(after[k], given[k])] == []
    assert message in log_line(caplog, "classes carried over")
    assert not [r for r in caplog.records if "skipped" in r.getMessage()]


def test_a_carried_class_is_detected_as_before(tmp_path):
    """Logits of a class are those of the same class in the checkpoint, wherever it stands."""
    source, model = small_model("smca_single_scale").eval(), target(num_classes=4).eval()
    path = save(source, tmp_path / "w.pth")
    load_initial_weights(model, path, class_names=("fish", "bird", "cat", "horse"))
    image = [{"image": torch.randint(256, (3, 64, 96), dtype=torch.uint8)}]
    with torch.no_grad():
        old, new = (m.raw_outputs(image)["pred_logits"] for m in (source, model))
    torch.testing.assert_close(new[..., 1:3], old[..., [2, 0]])


@pytest.mark.parametrize("names", [None, ()])
def test_without_names_as_many_classes_load_as_they_are(names, tmp_path):
    source, model = small_model("smca_single_scale"), target()
    path = save(source, tmp_path / "w.pth", names=names)
    load_initial_weights(model, path, class_names=("x", "y", "z"))
    assert [k for k, v in tensors(model).items() if not torch.equal(v, tensors(source)[k])] == []


def test_names_that_the_caller_does_not_know(tmp_path):
    source, model = small_model("smca_single_scale"), target()
    load_initial_weights(model, save(source, tmp_path / "w.pth"))
    assert torch.equal(model.state_dict()[WEIGHT], source.state_dict()[WEIGHT])


def test_without_names_another_number_leaves_only_the_classifier(tmp_path, caplog):
    source, model = small_model("smca_single_scale"), target(num_classes=5)
    before = tensors(model)
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(
            model, save(source, tmp_path / "w.pth", names=None), class_names=tuple("abcde")
        )
    after = tensors(model)
    for name, tensor in after.items():
        given = before if name in (WEIGHT, BIAS) else source.state_dict()
        assert torch.equal(tensor, given[name]), name
    line = log_line(caplog, "skipped for their shape")
    assert line.startswith("2 tensors")
    assert f"{BIAS} (3,) instead of (5,)" in line


def test_the_same_names_load_whole_and_say_nothing(tmp_path, caplog):
    source, model = small_model("smca_single_scale"), target()
    with caplog.at_level(logging.INFO, "smca"):
        report = load_initial_weights(
            model, save(source, tmp_path / "w.pth"), class_names=("Cat", "dog", "bird")
        )
    assert [r.getMessage()[:6] for r in caplog.records] == ["Loaded"]
    assert len(report.loaded) == report.total == len(source.state_dict())
    assert report.classes.same


@pytest.mark.parametrize("queries", [3, 12])
def test_another_number_of_queries(queries, tmp_path, caplog):
    source = small_model("smca_single_scale")
    config = small_config("smca_single_scale")
    config.decoder.num_queries = queries
    model = instantiate(config)
    before = tensors(model)[QUERIES]
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(model, save(source, tmp_path / "w.pth"), class_names=NAMES)
    after, given = model.state_dict()[QUERIES], source.state_dict()[QUERIES]
    count = min(7, queries)
    assert torch.equal(after[:count], given[:count])
    assert torch.equal(after[count:], before[count:])
    assert f"{count} rows of 7 for {queries}" in log_line(caplog, "resized")


def test_moving_averages_are_preferred(tmp_path, caplog):
    source, averages, model = small_model("smca_single_scale"), target(seed=8), target()
    path = save(source, tmp_path / "w.pth", ema={"model": tensors(averages), "updates": 9})
    with caplog.at_level(logging.INFO, "smca"):
        load_initial_weights(model, path)
    assert [k for k, v in tensors(model).items() if not torch.equal(v, tensors(averages)[k])] == []
    assert log_line(caplog, "Loaded").endswith("(the moving averages of its training).")


def test_moving_averages_of_parameters_only(tmp_path):
    source, model = small_model("smca_single_scale"), target()
    source.backbone.stem.conv1.norm.running_mean.fill_(0.7)
    averages = {name: p.detach() + 1 for name, p in source.named_parameters()}
    load_initial_weights(model, save(source, tmp_path / "w.pth", ema={"model": averages}))
    assert torch.equal(model.state_dict()[WEIGHT], averages[WEIGHT])
    assert model.backbone.stem.conv1.norm.running_mean[0] == 0.7


@pytest.mark.parametrize("name", ["smca_single_scale", "detr_published"])
@pytest.mark.parametrize("converted", [False, True])
def test_published_coco_detectors_know_coco_names(name, converted, tmp_path):
    """Released files as they are and converted ones, with 92 columns of which 80 are classes."""
    source = small_model(name, num_classes=80)
    state = convert_state_dict(source.state_dict(), to_released=True, class_columns=92).state_dict
    path = tmp_path / "released.pth"
    torch.save({"model": state}, path)
    if converted:
        convert_file(path, tmp_path / "converted.pth")
        path = tmp_path / "converted.pth"
    names = ("zebra", "forklift", "person", "hair drier")
    model = target(name, num_classes=4)
    report = load_initial_weights(model, str(path), class_names=names)
    assert report.classes.carried == ["zebra", "person", "hair drier"]
    assert report.classes.new == ["forklift"]
    for row, column in ((0, 22), (2, 0), (3, 78)):
        assert COCO_CLASS_NAMES[column] == names[row]
        assert torch.equal(model.state_dict()[WEIGHT][row], source.state_dict()[WEIGHT][column])
    assert report.misshapen == []
    assert [name for name in report.missing if not name.endswith("num_batches_tracked")] == []


def test_cross_entropy_classes_into_a_focal_model(tmp_path):
    """The row of "no object" has no place there."""
    source, model = small_model("detr_published"), target("detr")
    report = load_initial_weights(model, save(source, tmp_path / "w.pth"), class_names=NAMES)
    assert torch.equal(model.state_dict()[WEIGHT], source.state_dict()[WEIGHT][:3])
    assert report.misshapen == []


def test_number_of_names(tmp_path):
    source = small_model("smca_single_scale")
    with pytest.raises(ValueError, match="has 3 classes, but there are 2 class names"):
        load_initial_weights(source, save(source, tmp_path / "w.pth"), class_names=("a", "b"))


def test_names_that_occur_twice():
    classes = NamedClasses(("a", "b", "A "), ("a", "B", "c", "b"))
    assert classes.rows() == [0, 1, None, 1]
    assert (classes.carried, classes.new, classes.same) == (["a", "B", "b"], ["c"], False)


class BoxPredictor(nn.Module):
    """Tensors as of Detectron2's R-CNN."""

    def __init__(self, num_classes):
        super().__init__()
        predictor = nn.Module()
        predictor.cls_score = nn.Linear(4, num_classes + 1)
        predictor.bbox_pred = nn.Linear(4, 4 * num_classes)
        self.roi_heads = nn.Module()
        self.roi_heads.box_predictor = predictor


def test_box_predictor_of_faster_rcnn(tmp_path):
    source, model = BoxPredictor(3), BoxPredictor(2)
    before = tensors(model)
    path = save(source, tmp_path / "w.pth")
    load_initial_weights(model, path, class_names=("bird", "cow"))
    given, after = tensors(source), tensors(model)
    for leaf in ("weight", "bias"):
        scores, boxes = (f"roi_heads.box_predictor.{n}.{leaf}" for n in ("cls_score", "bbox_pred"))
        expected = torch.stack([given[scores][2], before[scores][1], given[scores][3]])
        assert torch.equal(after[scores], expected)
        assert torch.equal(after[boxes], torch.cat([given[boxes][8:12], before[boxes][4:]]))


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = build_resnet(norm="FrozenBN", freeze_at=0, depth=50)


def test_imagenet_file_of_detectron(tmp_path):
    """Caffe2's names, and norms that are folded to a scale and a shift."""
    blobs = {
        "conv1_w": np.full((64, 3, 7, 7), 0.5, np.float32),
        "res_conv1_bn_s": np.full(64, 2, np.float32),
        "res_conv1_bn_b": np.full(64, 3, np.float32),
        "res2_0_branch2a_w": np.full((64, 64, 1, 1), 0.25, np.float32),
    }
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps(blobs, protocol=2))
    model = Backbone()
    report = load_initial_weights(model, str(path))
    stem = model.backbone.stem.conv1
    assert (stem.weight == 0.5).all()
    assert (stem.norm.weight == 2).all()
    assert (stem.norm.bias == 3).all()
    assert (model.backbone.res2[0].conv1.weight == 0.25).all()
    assert len(report.loaded) == 4
    assert frozen_norm_without_weights(model)


def test_folded_norms_count_as_loaded():
    model = Backbone()
    for name, buffer in model.named_buffers():
        if name.endswith("norm.weight"):
            buffer.fill_(0.4)
    assert not frozen_norm_without_weights(model)


def test_detectron2_style_pickle_of_ours(tmp_path):
    source, model = small_model("smca_single_scale"), target(num_classes=2)
    content = {
        "model": {name: tensor.numpy() for name, tensor in source.state_dict().items()},
        "__author__": "us",
        "smca": ModelInfo(model={"_target_": "x"}, class_names=NAMES).to_json(),
    }
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    report = load_initial_weights(model, str(tmp_path / "w.pkl"), class_names=("bird", "cat"))
    assert torch.equal(model.state_dict()[WEIGHT], source.state_dict()[WEIGHT][[2, 0]])
    assert report.unknown == report.missing == []


def test_a_name_that_cannot_be_fetched(monkeypatch):
    def fail(path, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("smca.checkpoint.reading.fetch.PathManager.get_local_path", fail)
    with pytest.raises(ValueError, match=r"detectron2://a\.pkl cannot be fetched \(no route"):
        load_initial_weights(nn.Linear(1, 1), "detectron2://a.pkl")


def test_parts_of_the_users_own_are_loaded_by_name(tmp_path):
    """Nothing here depends on what a model is."""
    config = L(nn.Linear)(in_features=2, out_features=3)
    source, model = instantiate(config), instantiate(config)
    load_initial_weights(model, save(source, tmp_path / "w.pth"), class_names=("a",))
    assert torch.equal(model.weight, source.weight)
