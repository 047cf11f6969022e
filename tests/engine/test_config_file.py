from pathlib import Path

import pytest

from smca.engine import load_config_file

CONFIGS = Path(__file__).parents[2] / "configs"
PARTS = ("model", "dataloader", "optimizer", "lr_multiplier", "train")


def write(tmp_path, text, name="experiment.py"):
    file = tmp_path / name
    file.write_text(text)
    return str(file)


def test_an_experiment_has_its_five_parts():
    cfg = load_config_file(str(CONFIGS / "digits" / "smca_single_scale.py"))
    assert set(PARTS) <= set(cfg)


def test_a_config_outside_of_the_project(tmp_path):
    parts = "\n".join(f"{name} = dict(a=1)" for name in PARTS)
    assert load_config_file(write(tmp_path, parts)).train.a == 1


def test_a_missing_file_names_the_nearest():
    wanted = str(CONFIGS / "smca_r50_50epoch.py")
    with pytest.raises(ValueError, match="does not exist") as error:
        load_config_file(wanted)
    assert wanted in str(error.value)
    assert f"did you mean {CONFIGS / 'smca_r50_50ep.py'}?" in str(error.value)


@pytest.mark.parametrize("path", ["", "nowhere/at_all.py"])
def test_a_missing_file_without_anything_near(path):
    with pytest.raises(ValueError, match=f"'{path}' does not exist; see configs/"):
        load_config_file(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("model = (", "syntax"),
        ("from .nowhere import model", "nowhere"),
        ("import no_such_module_here", "no_such_module_here"),
        ("model = undefined_name", "undefined_name"),
        ("model = dict(a=1)\nmodel.no_such_method()", "no_such_method"),
    ],
)
def test_a_file_that_cannot_be_loaded(tmp_path, text, reason):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match="cannot be loaded") as error:
        load_config_file(path)
    assert path in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("left_out", PARTS)
def test_a_part_is_missing(tmp_path, left_out):
    text = "\n".join(f"{name} = dict(a=1)" for name in PARTS if name != left_out)
    with pytest.raises(ValueError, match=f"defines no '{left_out}'"):
        load_config_file(write(tmp_path, text))


def test_yaml_is_not_read(tmp_path):
    """Loading it can run code, and a user who gives a CfgNode's yaml is told what is wanted."""
    path = write(tmp_path, "MODEL:\n  WEIGHTS: x\n", "old.yaml")
    with pytest.raises(ValueError, match=r"is a \.py file"):
        load_config_file(path)
