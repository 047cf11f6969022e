"""Resuming with other settings than a run was started with."""

import pytest
from detectron2.config import LazyConfig
from omegaconf import OmegaConf

from smca import model_zoo
from smca.engine.run.run_settings import compare_with_start, record_resumption


@pytest.fixture
def cfg(tmp_path):
    """Of a run that has just been started."""
    cfg = model_zoo.get_config("digits/smca_single_scale")
    cfg.train.output_dir = str(tmp_path)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    return cfg


def test_the_same_settings(cfg, tmp_path):
    cfg.dataloader.train.num_workers = 7
    cfg.train.log_period = 3
    assert compare_with_start(cfg) == []
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_what_differs_and_which_counts(cfg, tmp_path):
    start = (tmp_path / "config.yaml").read_bytes()
    cfg.optimizer.lr = 0.5
    cfg.train.seed = 7
    cfg.model.criterion.class_weight = 3.0
    told = compare_with_start(cfg)
    assert told == [
        "model.criterion.class_weight was 10.0 at the start and is 3.0 now: the new value counts from here on",
        "optimizer.lr was 0.0004 at the start and is 0.5 now: the checkpoint's counts; a run of its own, with "
        "train.init_checkpoint, would take the new one",
        "train.seed was 42 at the start and is 7 now: the new value counts from here on",
    ]
    assert (tmp_path / "config.yaml").read_bytes() == start
    for number in (1, 2):
        record_resumption(cfg)
        assert "seed: 7" in (tmp_path / f"config_resumed_{number}.yaml").read_text()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("train.lr_scaling.rule", "linear", "the checkpoint's counts"),
        ("optimizer.weight_decay", 0.5, "the checkpoint's counts"),
        ("train.init_checkpoint", "a.pth", "neither is read"),
        ("dataloader.train.total_batch_size", 4, "the new value counts"),
        ("lr_multiplier.drop_epochs", [3], "the new value counts"),
        ("train.max_iter", 7, "the new value counts"),
    ],
)
def test_which_value_counts(cfg, key, value, words):
    OmegaConf.update(cfg, key, value)
    (told,) = compare_with_start(cfg)
    assert told.startswith(f"{key} was ")
    assert words in told


def test_another_json_is_another_data_set(tmp_path):
    cfg = model_zoo.get_config("digits/custom_coco")
    for name, text in (("a", "1"), ("moved", "1"), ("other", "2")):
        (tmp_path / f"{name}.json").write_text(text)
    cfg.train.output_dir = str(tmp_path)
    cfg.data.train_json = str(tmp_path / "a.json")
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    cfg.data.train_json = str(tmp_path / "moved.json")
    assert "the new value counts" in compare_with_start(cfg)[0]
    cfg.data.train_json = str(tmp_path / "other.json")
    with pytest.raises(
        ValueError, match=r"--resume: data\.train_json is '.*other\.json', but the run"
    ):
        compare_with_start(cfg)
    # Where the old one is gone it may have been moved.
    (tmp_path / "a.json").unlink()
    assert "the new value counts" in compare_with_start(cfg)[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.decoder.num_queries", 30),
        ("model.isolate_images", False),
        ("dataloader.train.dataset.names", "coco_2017_train"),
    ],
)
def test_what_makes_it_another_run_is_refused(cfg, tmp_path, key, value):
    *path, leaf = key.split(".")
    node = cfg
    for name in path:
        node = node[name]
    node[leaf] = value
    with pytest.raises(
        ValueError, match=rf"--resume: {key} is {value!r}, but the run in .* was started with"
    ):
        compare_with_start(cfg)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_lost_or_damaged_record_is_said_and_no_obstacle(cfg, tmp_path):
    (tmp_path / "config.yaml").write_text("{")
    assert "cannot be read" in compare_with_start(cfg)[0]
    (tmp_path / "config.yaml").unlink()
    assert "is gone" in compare_with_start(cfg)[0]
