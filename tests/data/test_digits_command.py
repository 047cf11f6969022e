import importlib.util
import json
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_digits.py"
SMALL = "--name digits_small --image-size 64x96 --digit-max 40 --train-images 3 --val-images 2"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("make_digits_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_makes_what_was_asked_and_prints_a_registration_that_works(tool, tmp_path, capsys):
    assert tool.main([*SMALL.split(), "--root", str(tmp_path), "--blur", "0"]) == 0
    content = json.loads(
        (tmp_path / "digits_small/annotations/digits_small_train.json").read_text()
    )
    assert len(content["images"]) == 3
    assert max(image["height"] for image in content["images"]) <= 64
    assert max(image["width"] for image in content["images"]) <= 96
    assert content["info"]["smca_digits"]["blur"] == 0

    lines = capsys.readouterr().out.splitlines()
    code = [line for line in lines if line.startswith(("from ", "register_coco_instances("))]
    assert len(code) == 3
    try:
        exec("\n".join(code), {})
        assert len(DatasetCatalog.get("digits_small_train")) == 3
        assert len(DatasetCatalog.get("digits_small_val")) == 2
    finally:
        for name in ("digits_small_train", "digits_small_val"):
            DatasetCatalog.pop(name, None)
            MetadataCatalog.pop(name, None)


def test_other_settings_on_disk_are_one_sentence_and_status_1(tool, tmp_path, capsys):
    arguments = [*SMALL.split(), "--root", str(tmp_path)]
    assert tool.main(arguments) == 0
    capsys.readouterr()
    assert tool.main([*arguments, "--seed", "3"]) == 1
    error = capsys.readouterr().err.strip()
    assert "seed 0 instead of 3" in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--name digits --seed 1", "another --name"),
        ("--name d --digit-max 500", "digit_max must be between"),
        ("--name d --image-size wide", "neither HxW nor one number"),
        ("--seed 1", "--name"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tool, tmp_path, capsys, arguments, message
):
    with pytest.raises(SystemExit) as exit_:
        tool.main([*arguments.split(), "--root", str(tmp_path)])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_every_option_has_a_help_text(tool, capsys):
    with pytest.raises(SystemExit):
        tool.main(["--help"])
    assert "--max-objects" in capsys.readouterr().out
