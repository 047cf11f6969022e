import builtins
from pathlib import Path

import pytest
from detectron2.config import LazyConfig, instantiate

from smca.description.model_data import lazy_model_as_data
from smca.engine.settings.setting_checks import check_settings
from smca.experiments import apply_overrides, load_config_file

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
        ("model = (", "'(' was never closed"),
        ("from .nowhere import model", "nowhere"),
        ("import no_such_module_here", "no_such_module_here"),
        ("model = undefined_name", "undefined_name"),
        ("model = dict(a=1).no_such_method()", "no_such_method"),
    ],
)
def test_a_file_that_cannot_be_loaded(tmp_path, text, reason):
    path = write(tmp_path, f"import math\n\n{text}")
    import_before = builtins.__import__
    with pytest.raises(ValueError, match="line 3 cannot be loaded") as error:
        load_config_file(path)
    assert builtins.__import__ is import_before
    assert f"config file {path}, line 3" in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_the_line_is_that_of_the_error_and_not_of_the_call(tmp_path):
    text = "def model_of():\n    return undefined_name\n\n\nmodel = model_of()\n"
    with pytest.raises(ValueError, match=r"line 2 cannot be loaded"):
        load_config_file(write(tmp_path, text))


@pytest.mark.parametrize("left_out", PARTS)
def test_a_part_is_missing(tmp_path, left_out):
    text = "\n".join(f"{name} = dict(a=1)" for name in PARTS if name != left_out)
    with pytest.raises(ValueError, match=f"defines no '{left_out}'"):
        load_config_file(write(tmp_path, text))


def test_the_yaml_of_a_run_is_the_same_experiment(tmp_path):
    cfg = load_config_file(str(CONFIGS / "digits" / "smca_single_scale.py"))
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    again = load_config_file(str(tmp_path / "config.yaml"))
    apply_overrides(again, ["optimizer.betas=[0.9,0.98]", "train.max_iter=3"])
    check_settings(again, training=True)
    assert lazy_model_as_data(again.model) == lazy_model_as_data(cfg.model)
    assert instantiate(again.model).num_classes == 10


def test_numbers_of_a_yaml_are_numbers(tmp_path):
    text = "\n".join(f"{name}: {{a: 1e-4}}" for name in PARTS)
    assert load_config_file(write(tmp_path, text, "a.yaml")).train.a == 1e-4


def test_reading_a_yaml_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    parts = "\n".join(f"{name}: {{a: 1}}" for name in PARTS)
    bad = f"{parts}\nx: !!python/object/apply:os.system ['touch {canary}']\n"
    with pytest.raises(ValueError, match="holds more than plain data") as error:
        load_config_file(write(tmp_path, bad, "bad.yaml"))
    assert "\n" not in str(error.value)
    named = f"{parts}\nhook: {{_target_: os.system, command: touch {canary}}}\n"
    load_config_file(write(tmp_path, named, "named.yaml"))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("MODEL:\n  WEIGHTS: x\n", "defines no 'model'"),
        ("a: [1", "is no readable yaml"),
        ("[1, 2]", "holds no fields by name"),
        ("word", "defines no 'model'"),
        ("", "defines no 'model'"),
        ("\n".join(f"{name}: 3" for name in PARTS), "defines no 'model'"),
    ],
)
def test_a_yaml_that_is_no_experiment(tmp_path, text, words):
    path = write(tmp_path, text, "old.yaml")
    with pytest.raises(ValueError, match=words) as error:
        load_config_file(path)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_other_files_are_not_read(tmp_path):
    with pytest.raises(
        ValueError, match=r"a LazyConfig is a \.py file, or the config\.yaml of a run"
    ):
        load_config_file(write(tmp_path, "{}", "a.json"))
