"""A user's own data through train_net.py: one command trains and evaluates, or one sentence says what is wrong."""

import collections
import copy
import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.structures import BoxMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.custom_data import PETS, TINY_MODEL, data_overrides, pets, write_data_set
from helpers.logs import logging_as_before
from smca import Predictor
from smca.data import class_names, fill_num_classes
from smca.engine import driver
from smca.engine.driver import run_process
from smca.experiments import apply_overrides, load_experiment

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs" / "digits" / "custom_coco.py")


@pytest.fixture(scope="module")
def run():
    def call(output_dir, *overrides, flags=(), config=CONFIG, model=TINY_MODEL):
        overrides = [*model, f"train.output_dir={output_dir}", *overrides]
        arguments = ["--config-file", config, *flags, *overrides]
        with logging_as_before():
            run_process(default_argument_parser().parse_args(arguments))

    return call


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A valid data set, not to be changed."""
    return write_data_set(tmp_path_factory.mktemp("pets"))


@pytest.fixture
def refused(run, tmp_path):
    def call(*overrides, **options) -> str:
        with pytest.raises(SystemExit) as exit_info:
            run(tmp_path / "out", *overrides, **options)
        message = str(exit_info.value.code)
        assert message.startswith("train_net.py: ")
        assert "\n" not in message
        assert not (tmp_path / "out").exists()
        return message

    return call


def metrics(folder) -> dict:
    return json.loads((Path(folder) / "metrics.json").read_text().splitlines()[-1])


def test_one_command_trains_and_evaluates_by_name(run, data, tmp_path, capsys):
    """Ids with gaps and out of order, mixed sizes, an empty image and a crowd."""
    run(tmp_path / "out", *data_overrides(data, data))
    log = (tmp_path / "out" / "log.txt").read_text()
    line = "custom_train: 3 images (1 without objects), 3 objects of 3 classes; dropped: 1 crowd"
    assert log.count(line) == 1
    assert re.search(r"\| cat +\| \S+ +\| dog +\| \S+ +\| emu", log)
    last = metrics(tmp_path / "out")
    assert {f"bbox/AP-{name}" for name in ("cat", "dog", "emu")} <= set(last)
    assert 0 <= last["bbox/AP"] <= 100
    saved = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    assert saved["model"]["heads.classifier.weight"].shape[0] == 3
    assert json.loads(saved["smca"])["class_names"] == ["cat", "dog", "emu"]
    assert json.loads(saved["smca"])["class_ids"] == [3, 11, 40]
    config = LazyConfig.load(str(tmp_path / "out" / "config.yaml"))
    assert config.model.num_classes == 3

    final = str(tmp_path / "out" / "model_final.pth")
    predictor = Predictor.from_checkpoint(final, threshold=0.0, device="cpu")
    assert predictor.class_names == ["cat", "dog", "emu"]
    assert set(predictor(str(data[1] / "a.png")).pred_classes.tolist()) <= {0, 1, 2}

    weights = f"train.init_checkpoint={final}"
    val_only = data_overrides(data, data)[2:]
    run(tmp_path / "again", *val_only, weights, flags=["--eval-only"])
    assert f"{last['bbox/AP']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["custom_coco", "digits/custom_coco"])
def test_config_survives_save_and_reload(run, data, tmp_path, name):
    cfg = LazyConfig.load(str(ROOT / "configs" / f"{name}.py"))
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = LazyConfig.load(str(tmp_path / "config.yaml"))
    apply_overrides(again, data_overrides(data, data))
    assert again.model.num_classes is None
    fill_num_classes(again)
    assert again.model.num_classes == 3
    assert class_names(again) == ("cat", "dog", "emu")
    loader = instantiate(again.dataloader.train)
    assert loader.num_images == 3
    assert len(instantiate(again.dataloader.test)) == 3
    assert instantiate(again.dataloader.evaluator)._category_names() == ["cat", "dog", "emu"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("train_json", "null", "data.train_json is not set"),
        ("val_json", "null", "data.val_json is not set"),
        ("train_images", "null", "3 of 3 image files of custom_train are missing"),
        ("train_json", "{images}", "is a folder, but one COCO json is needed"),
        ("train_json", "nowhere.json", "data.train_json: there is no file nowhere.json"),
        ("val_json", "nowhere.json", "data.val_json: there is no file nowhere.json"),
        ("val_images", "nowhere", "data.val_images: there is no folder nowhere"),
        ("train_json", "5", "data.train_json must be a path, not 5"),
        ("val_images", "[a]", "data.val_images must be a path, not "),
    ],
)
def test_a_path_that_is_missing_is_named_by_its_field(refused, data, field, value, words):
    value = value.format(images=data[1])
    assert words in refused(*data_overrides(data, data), f"data.{field}={value}")


def test_the_images_are_beside_the_json_unless_told(data, tmp_path):
    """As Roboflow exports them."""
    paths = []
    for split in ("train", "val"):
        folder = tmp_path / split
        shutil.copytree(data[1], folder)
        paths.append(shutil.copy(data[0], folder / "_annotations.coco.json"))
    cfg = LazyConfig.load(CONFIG)
    apply_overrides(cfg, [f"data.train_json={paths[0]}", f"data.val_json={paths[1]}"])
    for split in ("train", "test"):
        records = instantiate(cfg.dataloader[split].dataset)
        folder = str(tmp_path / split.replace("test", "val"))
        assert [Path(r["file_name"]).parent for r in records] == [Path(folder)] * 3


def test_a_set_number_of_classes_is_checked(refused, run, data, tmp_path):
    message = refused(*data_overrides(data, data), "model.num_classes=2")
    assert "num_classes=2" in message
    assert "null" in message
    assert "3 classes" in refused(*data_overrides(data, data), "model.num_classes=5")
    run(tmp_path / "fits", *data_overrides(data, data), "model.num_classes=3")


def test_classes_of_the_val_json_are_matched_by_name(run, data, tmp_path):
    """Other ids, another order, and one class less: the model's classes stay those of the training json."""
    content = pets()
    ids = {40: 1, 3: 2}
    content["categories"] = [{"id": 1, "name": "emu"}, {"id": 2, "name": "cat"}]
    content["annotations"] = [
        {**a, "category_id": ids[a["category_id"]]}
        for a in content["annotations"]
        if a["category_id"] in ids
    ]
    val = write_data_set(tmp_path, content, name="val")
    run(tmp_path / "out", *data_overrides(data, val))
    last = metrics(tmp_path / "out")
    assert MetadataCatalog.get("custom_val").thing_dataset_id_to_contiguous_id == {2: 0, 1: 2}
    assert math.isnan(last["bbox/AP-dog"])
    assert last["bbox/AP-emu"] >= 0


def test_upper_case_and_blanks_in_a_class_name_of_the_val_json_are_passed_over(data, tmp_path):
    """As they are when a checkpoint's rows are carried over."""
    content = pets()
    content["categories"][1]["name"] = " CAT"
    val = write_data_set(tmp_path, content, name="val")
    cfg = apply_overrides(LazyConfig.load(CONFIG), data_overrides(data, val))
    records = instantiate(cfg.dataloader.test.dataset)
    assert [a["category_id"] for r in records for a in r["annotations"]] == [1, 0, 2, 0]
    assert MetadataCatalog.get("custom_val").thing_classes == ["cat", "dog", "emu"]
    assert MetadataCatalog.get("custom_val").thing_dataset_id_to_contiguous_id == {
        3: 0,
        11: 1,
        40: 2,
    }


def test_a_class_that_training_does_not_know(refused, data, tmp_path):
    content = pets()
    content["categories"][1]["name"] = "cats"
    val = write_data_set(tmp_path, content, name="val")
    message = refused(*data_overrides(data, val))
    assert "has objects of category 'cats' (id 3), which" in message
    assert "is it 'cat' there?" in message


def test_normalised_boxes_are_refused(refused, data, tmp_path):
    content = pets()
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for annotation in content["annotations"]:
        width, height = sizes[annotation["image_id"]]
        scale = (width, height, width, height)
        annotation["bbox"] = [v / s for v, s in zip(annotation["bbox"], scale, strict=True)]
    train = write_data_set(tmp_path, content, name="train")
    message = refused(*data_overrides(train, data))
    assert "custom_train: its boxes look like" in message
    assert "normalised to 0..1, but COCO's are (x, y, width, height) in pixels" in message
    assert "multiply them by the image's size" in message


def test_a_training_without_any_object_is_refused(refused, data, tmp_path):
    """Before an earlier run is moved away; an evaluation is possible."""
    train = write_data_set(tmp_path, {**pets(), "annotations": []}, name="train")
    assert "custom_train has no object to learn from" in refused(*data_overrides(train, data))


def test_an_image_that_is_cut_off_ends_a_training_by_name(run, data, tmp_path):
    """Its header is whole, so it shows when its turn comes."""
    cut = write_data_set(tmp_path, name="cut")
    path = cut[1] / "b.jpg"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit) as exit_info:
        run(tmp_path / "out", *data_overrides(cut, data), "train.max_iter=4")
    message = str(exit_info.value.code)
    assert f"{path}: it cannot be read as an image (image file is truncated" in message
    assert "\n" not in message


def as_dicts(data) -> list[dict]:
    """The same data set as a user's own code would return it: corners, no json."""
    json_file, images = data
    content = json.loads(json_file.read_text())
    order = sorted(c["id"] for c in content["categories"])
    return [
        {
            "file_name": str(images / image["file_name"]),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "annotations": [
                {
                    "bbox": [a["bbox"][0], a["bbox"][1], a["bbox"][0] + a["bbox"][2],
                             a["bbox"][1] + a["bbox"][3]],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "category_id": order.index(a["category_id"]),
                    "iscrowd": a["iscrowd"],
                }
                for a in content["annotations"]
                if a["image_id"] == image["id"]
            ],
        }
        for image in sorted(content["images"], key=lambda image: image["id"])
    ]  # fmt: skip


@pytest.fixture
def catalog():
    names = []

    def register(name, function, **metadata):
        DatasetCatalog.register(name, function)
        names.append(name)
        MetadataCatalog.get(name).set(**metadata)

    yield register
    for name in names:
        DatasetCatalog.pop(name)
        MetadataCatalog.pop(name)


REGISTERED = """
from detectron2.config import LazyCall as L
from smca.data import load_detection_dataset
from smca import model_zoo

_base = model_zoo.get_config("digits/custom_coco")
model, train, optimizer, lr_multiplier, dataloader = (
    _base[name] for name in ("model", "train", "optimizer", "lr_multiplier", "dataloader")
)
dataloader.train.dataset = L(load_detection_dataset)(names="smca_test_own")
dataloader.test.dataset = L(load_detection_dataset)(names="smca_test_own")
"""


def test_a_registered_data_set_is_as_good_as_a_json(run, data, catalog, tmp_path):
    """Same weights and same numbers after training and evaluating on the same objects."""
    calls = []
    dicts = as_dicts(data)
    catalog(
        "smca_test_own",
        lambda: (calls.append(1), copy.deepcopy(dicts))[1],
        thing_classes=["cat", "dog", "emu"],
    )
    config = tmp_path / "own.py"
    config.write_text(REGISTERED)
    run(tmp_path / "own", config=str(config))
    run(tmp_path / "json", *data_overrides(data, data))
    assert calls
    own, from_json = metrics(tmp_path / "own"), metrics(tmp_path / "json")
    keys = [key for key in from_json if "bbox" in key or "loss" in key]
    assert len(keys) > 15
    assert {k: repr(own[k]) for k in keys} == {k: repr(from_json[k]) for k in keys}
    assert not list((tmp_path / "own").rglob("*coco_format*"))


JUNK = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2, 7, 3.0, 0.5, -0.0, 1e300, -1e300, math.nan, math.inf, -math.inf,
        10**30, -(10**400), "", "7", "a.png", "../a.png", "\x00", "\ud800", "a\nb", "x" * 500, [], [1], [1, 2],
        [None] * 4, ["1", "2", "3", "4"], [1, 2, 3, math.nan], [[1, 2, 3, 4]], [0, 0, 0, 0], [5, 5, -3, 4],
        [500, 500, 4, 4], [-5, -5, 20, 20], [1e308, 1e308, 1e308, 1e308], [0, 0, 10**400, 5], [True] * 4, {},
        {"a": [1]}, {"counts": 3}, [[1, 2]],
    ]
)  # fmt: skip
"""What may stand in any field."""
FIELDS = {
    "images": ["id", "file_name", "width", "height"],
    "annotations": ["id", "image_id", "category_id", "bbox", "iscrowd", "area", "ignore", "segmentation"],
    "categories": ["id", "name"],
}  # fmt: skip
WEIGHTED = [(part, field) for part, fields in FIELDS.items() for field in fields]


@st.composite
def mutations(draw) -> tuple[str, list[str]]:
    """A json text, and which splits are to read it."""
    content = pets()
    for _ in range(draw(st.sampled_from([1, 1, 1, 2]))):
        how = draw(
            st.sampled_from(["field"] * 9 + ["number"] * 4 + ["delete"] * 2 + ["record", "list"])
        )
        part, field = draw(st.sampled_from(WEIGHTED))
        records = content[part]
        if how == "list":
            action = draw(st.sampled_from(["junk", "drop", "cut", "repeat"]))
            if action == "junk":
                content[part] = draw(JUNK)
            elif action == "drop":
                del content[part]
            elif action == "cut":
                content[part] = records[:1]
            else:
                content[part] = records * 2
        else:
            index = draw(st.integers(0, len(records) - 1))
            if how == "record":
                records[index] = draw(JUNK)
            elif not isinstance(records[index], dict):
                pass
            elif how == "delete":
                records[index].pop(field, None)
            elif how == "number" and part == "annotations":
                box = list(PETS["annotations"][0]["bbox"])
                numbers = st.floats(width=64) | st.integers(-100, 100) | st.floats(-60, 60)
                box[draw(st.integers(0, 3))] = draw(numbers)
                records[index]["bbox"] = box
            elif how == "number" and part == "images":
                records[index][draw(st.sampled_from(["width", "height"]))] = draw(
                    st.integers(-5, 100)
                )
            else:
                records[index][field] = draw(JUNK)
        if not all(isinstance(content.get(key), list) and content[key] for key in FIELDS):
            break
    splits = draw(st.sampled_from([["train"], ["val"], ["train", "val"]]))
    return json.dumps(content), splits


NAMES_A_RECORD = re.compile(
    r"(image|annotation|category) \d+ \(id "
    r"|no list '(images|annotations|categories)'|list '(images|annotations|categories)' is empty"
    r"|objects of category '.*' \(id |image files of custom_(train|val) are missing, the first is "
    r"|another shape than the data set says, the first is |custom_(train|val) has \d+ classes"
)
# More of them for a thorough search: SMCA_MUTATIONS=500 takes some minutes.
MUTATIONS = int(os.environ.get("SMCA_MUTATIONS", "80"))


@pytest.fixture
def quick(monkeypatch):
    """What costs time and reads nothing of the data: loading the config file again, its log, and drawing."""
    cfg = load_experiment(CONFIG, TINY_MODEL)
    monkeypatch.setattr(
        driver, "load_experiment", lambda _, opts: apply_overrides(copy.deepcopy(cfg), opts)
    )
    monkeypatch.setattr(driver, "set_up_log", lambda cfg, **options: None)
    monkeypatch.setattr("smca.evaluation.hook.draw_curves", lambda *args, **options: None)


def test_a_mutated_json_trains_or_is_refused_in_one_sentence(run, data, quick, tmp_path):
    outcomes = collections.Counter()

    @settings(
        max_examples=MUTATIONS,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations())
    def check(mutation):
        outcomes[train_or_refuse(run, data, tmp_path / "mutated", *mutation)] += 1

    check()
    # Otherwise one of the two is not tested at all.
    assert outcomes.total() >= 0.8 * MUTATIONS
    assert min(outcomes["trained"], outcomes["refused"]) > 0.2 * MUTATIONS


def train_or_refuse(run, data, folder, text, splits) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    broken = folder / "broken.json"
    broken.write_text(text)
    sources = {split: broken if split in splits else data[0] for split in ("train", "val")}
    overrides = data_overrides((sources["train"], data[1]), (sources["val"], data[1]))
    try:
        run(folder / "out", *overrides, model=[])
    except SystemExit as ended:
        message = str(ended.code)
        assert message.startswith("train_net.py: ")
        assert len(message.splitlines()) == 1
        assert len(message) < 700
        assert NAMES_A_RECORD.search(message), message
        assert not (folder / "out").exists()
        return "refused"
    assert "bbox/AP" in metrics(folder / "out")
    return "trained"
