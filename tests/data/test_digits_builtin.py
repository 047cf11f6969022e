import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import detection_utils as utils
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BoxMode

from smca.data import DigitsError, DigitsSpec, ensure_digits, register_digits
from smca.data.digits import registration

TINY = DigitsSpec(train_images=4, val_images=3, empty_fraction=0.0)
NAMES = ("digits_tiny_train", "digits_tiny_val")


@pytest.fixture(autouse=True)
def clean_catalogs():
    yield
    for name in NAMES:
        for catalog in (DatasetCatalog, MetadataCatalog, registration._registered):
            catalog.pop(name, None)


def register(root, spec=TINY):
    register_digits(root, "digits_tiny", spec)


def test_metadata_is_there_before_any_file(tmp_path):
    register(tmp_path)
    meta = MetadataCatalog.get("digits_tiny_val")
    assert meta.thing_classes == [str(digit) for digit in range(10)]
    assert meta.thing_dataset_id_to_contiguous_id == {i + 1: i for i in range(10)}
    assert meta.evaluator_type == "coco"
    assert not os.path.exists(meta.json_file)
    assert list(tmp_path.iterdir()) == []


def test_first_use_makes_and_loads_the_data(tmp_path):
    register(tmp_path)
    train, val = (DatasetCatalog.get(name) for name in NAMES)
    assert (len(train), len(val)) == (4, 3)
    assert {record["image_id"] for record in train} == {1, 2, 3, 4}
    for record in train + val:
        image = utils.read_image(record["file_name"], format="RGB")
        utils.check_image_size(record, image)
        assert image.dtype == np.uint8
        assert record["annotations"]
        for annotation in record["annotations"]:
            assert annotation["category_id"] in range(10)
            assert annotation["bbox_mode"] == BoxMode.XYWH_ABS
    meta = MetadataCatalog.get("digits_tiny_val")
    assert os.path.isfile(meta.json_file)
    assert Path(val[0]["file_name"]).parent == Path(meta.image_root)


def test_evaluator_can_be_built_first(tmp_path, monkeypatch):
    register(tmp_path)
    made = []
    real = registration.make_digits
    monkeypatch.setattr(
        registration, "make_digits", lambda *a, **k: (made.append(a), real(*a, **k))
    )
    ensure_digits("coco_2017_val", "no_such_data_set", progress=False)
    assert made == []
    ensure_digits(*NAMES, progress=False)
    assert len(made) == 1
    evaluator = COCOEvaluator("digits_tiny_val", tasks=("bbox",), distributed=False)
    assert len(evaluator._coco_api.imgs) == 3


def test_registering_again_changes_nothing_and_another_root_replaces(tmp_path):
    register(tmp_path / "a")
    loader, meta = DatasetCatalog["digits_tiny_val"], MetadataCatalog.get("digits_tiny_val")
    register(tmp_path / "a")
    assert DatasetCatalog["digits_tiny_val"] is loader
    assert MetadataCatalog.get("digits_tiny_val") is meta
    register(tmp_path / "b")
    records = DatasetCatalog.get("digits_tiny_val")
    assert Path(records[0]["file_name"]).is_relative_to(tmp_path / "b")
    assert not (tmp_path / "a").exists()


def test_data_of_other_settings_is_refused_on_use(tmp_path):
    register(tmp_path)
    ensure_digits(NAMES[0], progress=False)
    register(tmp_path, DigitsSpec(train_images=4, val_images=3, seed=9))
    with pytest.raises(DigitsError, match="seed"):
        DatasetCatalog.get(NAMES[0])


def test_name_of_someone_else_is_not_taken(tmp_path):
    DatasetCatalog.register("digits_tiny_val", list)
    with pytest.raises(ValueError, match="digits_tiny_val"):
        register(tmp_path)
    assert DatasetCatalog["digits_tiny_val"] is list
    assert "digits_tiny_train" not in DatasetCatalog


def test_environment_names_the_root_and_import_needs_no_scikit_learn(tmp_path):
    code = (
        "import sys; from smca.data import register_digits; register_digits(); register_digits();"
        "from detectron2.data import MetadataCatalog as M;"
        "assert not any(m.split('.')[0] == 'sklearn' for m in sys.modules), 'sklearn imported';"
        "print(M.get('digits_train').json_file); print(M.get('digits_val').image_root)"
    )
    environment = {**os.environ, "DETECTRON2_DATASETS": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [
        str(tmp_path / "digits" / "annotations" / "digits_train.json"),
        str(tmp_path / "digits" / "val"),
    ]
