"""Copies of a COCO json in YOLO's and Pascal VOC's formats give its records and train to its numbers."""

import json
import shutil

import numpy as np
import pytest
from detectron2.config import LazyConfig, instantiate
from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser

from helpers.builders import ROOT
from helpers.custom_data import TINY_MODEL, data_overrides, pets, write_data_set
from helpers.logs import logging_as_before
from helpers.other_formats import write_voc, write_yolo
from smca.data import DigitsSpec, make_digits
from smca.data.digits.store import annotation_file, image_root
from smca.data_check.command import main
from smca.engine.driver import run_process
from smca.evaluation.ground_truth import load_ground_truth
from smca.experiments import apply_overrides

CONFIG = str(ROOT / "configs" / "digits" / "custom_coco.py")
SPEC = DigitsSpec(train_images=8, val_images=4)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    make_digits(root, SPEC, progress=False)
    return {
        split: (annotation_file(root, "digits", split), image_root(root, "digits", split))
        for split in ("train", "val")
    }


def records_of(*overrides) -> dict[str, list[dict]]:
    cfg = apply_overrides(LazyConfig.load(CONFIG), list(overrides))
    return {split: instantiate(cfg.dataloader[split].dataset) for split in ("train", "test")}


def boxes_of(records) -> np.ndarray:
    return np.array([a["bbox"] for r in records for a in r["annotations"]])


def without_boxes(records) -> list:
    return [
        (r["height"], r["width"], [(a["category_id"], a["iscrowd"]) for a in r["annotations"]])
        for r in records
    ]


def test_digits_in_all_three_formats_are_the_same_records(digits, tmp_path):
    """Pixels of the digits are whole numbers, so VOC's are the same floats; YOLO's are so within their decimals."""
    expected = records_of(*data_overrides(digits["train"], digits["val"]))
    voc = write_voc(tmp_path / "voc", digits, prefix=True)
    yolo = write_yolo(tmp_path / "yolo", digits)
    for path, tolerance in ((voc, 0.0), (yolo, 128 * 1e-6)):
        found = records_of(f"data.train_json={path}")
        for split in ("train", "test"):
            assert without_boxes(found[split]) == without_boxes(expected[split])
            difference = boxes_of(found[split]) - boxes_of(expected[split])
            assert np.abs(difference).max() <= tolerance
            for one, other in zip(found[split], expected[split], strict=True):
                with open(one["file_name"], "rb") as a, open(other["file_name"], "rb") as b:
                    assert a.read() == b.read()
        names = MetadataCatalog.get("custom_train").thing_classes
        assert names == [str(number) for number in range(10)]


def train(output, *overrides) -> list[dict]:
    arguments = [
        "--config-file", CONFIG, *TINY_MODEL, "train.max_iter=3", "train.seed=3",
        f"train.output_dir={output}", *overrides,
    ]  # fmt: skip
    with logging_as_before():
        run_process(default_argument_parser().parse_args(arguments))
    return [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]


def test_they_train_to_the_same_numbers(digits, tmp_path):
    # 20 decimals write a double as it is, up to rounding.
    yolo = write_yolo(tmp_path / "yolo", digits, decimals=20)
    voc = write_voc(tmp_path / "voc", digits, prefix=True)
    expected = train(tmp_path / "json", *data_overrides(digits["train"], digits["val"]))
    keys = [k for k in expected[-1] if "loss" in k or "bbox/" in k]
    assert len(keys) > 15
    of_voc = train(tmp_path / "out_voc", f"data.train_json={voc}")
    of_yolo = train(tmp_path / "out_yolo", f"data.train_json={yolo}")
    for row, same, near in zip(expected, of_voc, of_yolo, strict=True):
        for key in set(keys) & set(row):
            assert repr(same[key]) == repr(row[key]), key
            np.testing.assert_allclose(near[key], row[key], rtol=1e-5, err_msg=key)


def test_crowds_are_difficult_and_a_missing_label_file_is_an_empty_image(tmp_path):
    """Evaluations of the json and of the VOC copy have the same truth."""
    data = {"train": write_data_set(tmp_path, name="pets")}
    expected = records_of(*data_overrides(data["train"], data["train"]))["test"]
    truth = load_ground_truth("custom_val").coco.dataset["annotations"]
    voc, yolo = write_voc(tmp_path / "voc", data), write_yolo(tmp_path / "yolo", data, decimals=17)
    found = records_of(f"data.train_json={voc}", "data.val_split=train")["test"]
    assert without_boxes(found) == without_boxes(sorted(expected, key=lambda r: r["file_name"]))
    same = load_ground_truth("custom_val").coco.dataset["annotations"]
    keys = ("image_id", "category_id", "bbox", "iscrowd")
    assert [[a[k] for k in keys] for a in same] == [[a[k] for k in keys] for a in truth]
    found = records_of(f"data.train_json={yolo}", "data.val_split=train")["train"]
    assert [len(r["annotations"]) for r in found] == [2, 1, 0]


def test_classes_of_a_json_to_evaluate_on_are_matched_by_name(tmp_path):
    data = {"train": write_data_set(tmp_path, name="pets")}
    yolo = write_yolo(tmp_path / "yolo", data)
    yolo.write_text(yolo.read_text().replace('"cat"', '"emu "').replace('"emu"', '"cat"'))
    records = records_of(
        f"data.train_json={yolo}",
        f"data.val_json={data['train'][0]}",
        f"data.val_images={data['train'][1]}",
    )
    assert [a["category_id"] for r in records["test"] for a in r["annotations"]] == [1, 2, 0, 2]


def test_the_check_of_each_format(digits, tmp_path, capsys):
    """Same counts and no faults, and the json that --fix writes is the data set again."""
    outputs = {}
    voc = write_voc(tmp_path / "voc", digits, prefix=True)
    yolo = write_yolo(tmp_path / "yolo", digits)
    json_file, images = digits["val"]
    for name, arguments in {
        "json": [json_file, "--images", images],
        "voc": [voc, "--split", "val"],
        "yolo": [yolo, "--split", "val"],
        "folder": [yolo.parent, "--split", "val"],
    }.items():
        fixed, report = tmp_path / f"{name}.json", tmp_path / f"{name}_report.json"
        arguments = [*arguments, "--workers", 0, "--fix", fixed, "--json", report]
        assert main([str(a) for a in arguments]) == 0
        out = capsys.readouterr().out
        assert "No faults found." in out
        outputs[name] = json.loads(report.read_text())
        assert outputs[name]["name"].endswith(" (val)") == (name != "json")
        content = json.loads(fixed.read_text())
        expected = json.loads(json_file.read_text())
        boxes = [np.array([a["bbox"] for a in c["annotations"]]) for c in (content, expected)]
        np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-3)
    assert "a COCO json with file names relative to" in out
    for name in ("voc", "yolo", "folder"):
        for key in ("images", "objects", "empty_images", "classes", "share_by_size", "hints"):
            assert outputs[name][key] == outputs["json"][key], (name, key)


def test_the_json_of_fix_is_read_as_the_data_set(digits, tmp_path):
    yolo = write_yolo(tmp_path / "yolo", digits)
    fixed = tmp_path / "fixed.json"
    assert main([str(yolo), "--workers", "0", "--fix", str(fixed)]) == 0
    folder = tmp_path / "yolo"
    again = records_of(*data_overrides((fixed, folder), (fixed, folder)))["train"]
    first = records_of(f"data.train_json={yolo}")["train"]
    assert without_boxes(again) == without_boxes(first)
    np.testing.assert_array_equal(boxes_of(again), boxes_of(first))


def test_what_changes_is_read_again(tmp_path):
    data = {"train": write_data_set(tmp_path, name="pets")}
    yolo = write_yolo(tmp_path / "yolo", data)
    options = [f"data.train_json={yolo}", "data.val_split=train"]
    assert len(records_of(*options)["train"][2]["annotations"]) == 0
    (tmp_path / "yolo" / "labels" / "train" / "empty.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert len(records_of(*options)["train"][2]["annotations"]) == 1
    shutil.copy(
        tmp_path / "yolo" / "images" / "train" / "a.png",
        tmp_path / "yolo" / "images" / "train" / "z.png",
    )
    assert len(records_of(*options)["train"]) == 4


def test_no_data_to_evaluate_on(tmp_path):
    """A folder without lists of splits is one data set."""
    data = {"train": write_data_set(tmp_path, pets(), name="pets")}
    voc = write_voc(tmp_path / "voc", data)
    shutil.rmtree(voc / "ImageSets")
    with pytest.raises(ValueError, match=r"data\.val_json is not set"):
        records_of(f"data.train_json={voc}")
    records = records_of(f"data.train_json={voc}", f"data.val_json={voc}")
    assert len(records["test"]) == 3
