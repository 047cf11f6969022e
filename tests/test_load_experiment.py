"""An experiment by its name, from its file, or from what a run left of it."""

import pytest
from detectron2.config import LazyConfig
from omegaconf import OmegaConf

from helpers.builders import ROOT
from smca.description.model_data import lazy_model_as_data
from smca.errors import InputError
from smca.experiments import get_config, load_experiment

NAME = "digits/smca_single_scale"


def test_name_file_and_yaml_are_the_same_experiment(tmp_path):
    LazyConfig.save(get_config(NAME), str(tmp_path / "config.yaml"))
    places = (NAME, str(ROOT / "configs" / f"{NAME}.py"), str(tmp_path / "config.yaml"))
    models = []
    for place in places:
        cfg = load_experiment(place, ["train.max_iter=3", "model.decoder.num_queries=9"])
        assert (cfg.train.max_iter, cfg.model.decoder.num_queries) == (3, 9)
        models.append(lazy_model_as_data(cfg.model))
    assert models[0] == models[1] == models[2]


def test_one_loading_does_not_change_the_next():
    load_experiment(NAME, ["train.seed=7"])
    assert load_experiment(NAME).train.seed != 7


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("digits/smca_singlescale", "did you mean digits/smca_single_scale"),
        ("configs/digits", "no config named"),
        ("none.py", "'none.py' does not exist"),
        ("none.yaml", "'none.yaml' does not exist"),
        ("", "no config named"),
        (f"{ROOT / 'README.md'}", "a LazyConfig is a .py file"),
    ],
)
def test_what_is_none(place, words):
    with pytest.raises(InputError) as error:
        load_experiment(place)
    assert words in str(error.value)


def test_fields_that_there_are_not():
    with pytest.raises(InputError, match=r"no field train\.sed"):
        load_experiment(NAME, ["train.sed=7"])


def test_a_part_of_a_run_stays_a_part(tmp_path):
    """The yaml of a run names its callables, which the loaded config calls."""
    LazyConfig.save(get_config(NAME), str(tmp_path / "config.yaml"))
    cfg = load_experiment(str(tmp_path / "config.yaml"), ["+optimizer.eps=1e-6"])
    assert OmegaConf.select(cfg, "optimizer.eps") == 1e-6
