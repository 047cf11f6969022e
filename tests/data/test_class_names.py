"""Class names of an experiment, and the number of classes that is taken from them."""

import pytest
from detectron2.config import LazyConfig

from helpers.builders import ROOT
from helpers.custom_data import data_overrides, pets, write_data_set
from smca.data import class_names, fill_num_classes
from smca.experiments import apply_overrides


def config(name, *overrides):
    return apply_overrides(LazyConfig.load(str(ROOT / "configs" / f"{name}.py")), overrides)


def test_an_evaluation_of_coco_needs_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = config("smca_r50_50ep")
    assert len(class_names(cfg)) == 80
    assert class_names(cfg)[0] == "person"
    cfg.model.num_classes = 7
    fill_num_classes(cfg)
    assert cfg.model.num_classes == 7


@pytest.mark.parametrize("name", ["custom_coco", "digits/custom_coco"])
def test_train_before_val_before_an_error(tmp_path, name):
    train = write_data_set(tmp_path)
    content = pets()
    content["categories"] = content["categories"][:1]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 40]
    val = write_data_set(tmp_path, content, name="val")
    both = data_overrides(train, val)
    cfg = config(name, *both)
    fill_num_classes(cfg)
    assert cfg.model.num_classes == cfg.model.heads.num_classes == 3
    assert class_names(cfg) == ("cat", "dog", "emu")
    cfg = config(name, *both[2:])
    assert class_names(cfg) == ("emu",)
    fill_num_classes(cfg)
    assert cfg.model.num_classes == 1
    with pytest.raises(ValueError, match=r"data\.train_json is not set"):
        fill_num_classes(config(name))
