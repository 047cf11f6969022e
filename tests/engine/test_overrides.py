import pytest
import torch
from detectron2.config import LazyCall as L
from omegaconf import DictConfig, OmegaConf

from smca import model_zoo
from smca.experiments import apply_overrides


def scale_by(images, *, factor: float = 1.0, **extra) -> float:
    return images * factor


@pytest.fixture
def cfg() -> DictConfig:
    return OmegaConf.create(
        {
            "train": {"seed": 42, "max_iter": None, "checkpointer": {"period": 1}},
            "optimizer": L(torch.optim.AdamW)(lr=1e-4),
            "mapper": L(scale_by)(augmentations=[{"short_edge": 800}, {"flip": 0.5}], mean=[1.0]),
            "by_name": {"_target_": "torch.optim.AdamW", "lr": 1e-4},
        },
        flags={"allow_objects": True},
    )


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.seed=7", "train.seed", 7),
        ("train.max_iter=1e3", "train.max_iter", 1000.0),
        ("train.max_iter=null", "train.max_iter", None),
        ("train.seed='7'", "train.seed", "7"),
        ("train.checkpointer.period=5", "train.checkpointer.period", 5),
        ("mapper.mean=[1,2.5,x]", "mapper.mean", [1, 2.5, "x"]),
        ("mapper.mean.0=3", "mapper.mean.0", 3),
        ("mapper.augmentations.1.flip=0.25", "mapper.augmentations.1.flip", 0.25),
        ("mapper.augmentations=[]", "mapper.augmentations", []),
        # Parameters of the `_target_` that the config does not write.
        ("optimizer.betas=[0.9,0.98]", "optimizer.betas", [0.9, 0.98]),
        ("by_name.eps=1e-6", "by_name.eps", 1e-6),
        ("mapper.factor=2", "mapper.factor", 2),
        ("+optimizer.new.deep=1", "optimizer.new.deep", 1),
        ("+train.seed=7", "train.seed", 7),
        ("+mapper.extra=1", "mapper.extra", 1),
    ],
)
def test_sets_one_field_and_no_other(cfg, text, key, value):
    before = OmegaConf.to_container(cfg)
    assert apply_overrides(cfg, [text]) is cfg
    assert OmegaConf.select(cfg, key) == value

    changed = OmegaConf.to_container(cfg)
    for name in before:
        if name != key.split(".")[0]:
            assert changed[name] == before[name]


def test_a_group_is_merged_into(cfg):
    cfg.train.checkpointer.keep = 3
    apply_overrides(cfg, ["train.checkpointer={period: 9}"])
    assert cfg.train.checkpointer == {"period": 9, "keep": 3}


def test_a_neighbour_in_the_list_stays(cfg):
    apply_overrides(cfg, ["mapper.augmentations.0.short_edge=64"])
    assert cfg.mapper.augmentations == [{"short_edge": 64}, {"flip": 0.5}]


def test_later_overrides_win(cfg):
    apply_overrides(cfg, ["train.seed=1", "train.seed=2"])
    assert cfg.train.seed == 2


def test_an_override_reaches_what_refers_to_it():
    cfg = OmegaConf.create({"classes": 80, "head": {"classes": "${..classes}"}})
    apply_overrides(cfg, ["classes=10"])
    assert cfg.head.classes == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train.sed=1", ["train.sed", "nearest is train.seed"]),
        ("optimizer.bta=1", ["nearest is optimizer.betas", "write +optimizer.bta=... to add it"]),
        ("tran.seed=1", ["tran.seed", "no field tran", "nearest is train"]),
        ("optimizer.beta=[1,2]", ["nearest is optimizer.betas"]),
        ("by_name.lrr=1", ["nearest is by_name.lr"]),
        ("mapper.extra=1", ["no field mapper.extra"]),
        ("mapper.mean.1=3", ["no field mapper.mean.1"]),
        ("mapper.augmentations.2.flip=0", ["no field mapper.augmentations.2"]),
        ("mapper.augmentations.first.flip=0", ["no field mapper.augmentations.first"]),
        ("mapper.augmentations.1.flop=0", ["nearest is mapper.augmentations.1.flip"]),
        ("qqqqqq=1", ["there are", "mapper", "optimizer", "train"]),
    ],
)
def test_unknown_key_names_the_nearest(cfg, text, words):
    before = OmegaConf.to_yaml(cfg)
    with pytest.raises(ValueError, match="there is no field") as error:
        apply_overrides(cfg, [text])
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)
    assert OmegaConf.to_yaml(cfg) == before


@pytest.mark.parametrize("sign", ["", "+"])
@pytest.mark.parametrize(
    ("key", "parent", "value"),
    [
        ("train.seed.x", "train.seed", "42"),
        ("train.max_iter.x", "train.max_iter", "None"),
        ("mapper.mean.0.x", "mapper.mean.0", "1.0"),
    ],
)
def test_key_below_a_value(cfg, sign, key, parent, value):
    with pytest.raises(ValueError, match=f"{parent} is no group of fields but {value}"):
        apply_overrides(cfg, [f"{sign}{key}=1"])


@pytest.mark.parametrize(
    "text", ["train.seed", "train.seed=[1", "train.seed={a", "a b=3", "train seed"]
)
def test_unreadable(cfg, text):
    with pytest.raises(ValueError, match="write key=value") as error:
        apply_overrides(cfg, [text])
    assert repr(text) in str(error.value)
    assert "\n" not in str(error.value)


def test_fields_cannot_be_deleted(cfg):
    with pytest.raises(ValueError, match="set them to null"):
        apply_overrides(cfg, ["~train.seed"])
    assert cfg.train.seed == 42


@pytest.mark.parametrize("values", ["1,2", "range(1,3)"])
def test_several_values_are_no_value(cfg, values):
    with pytest.raises(ValueError, match="give one value"):
        apply_overrides(cfg, [f"train.seed={values}"])
    assert cfg.train.seed == 42


@pytest.mark.parametrize("text", ["model=3", "model=null", "model.head=word"])
def test_a_group_is_no_value(text):
    cfg = OmegaConf.create({"model": {"width": 3, "head": {"depth": 1}}})
    with pytest.raises(ValueError, match=r"it is a group of fields, set one of them \(model\."):
        apply_overrides(cfg, [text])


def test_a_part_can_be_left_out():
    cfg = OmegaConf.create({"model": {"width": 3, "head": {"depth": 1}}})
    assert apply_overrides(cfg, ["model.head=null"]).model.head is None


def test_options_go_first(cfg):
    with pytest.raises(ValueError, match="--resume stands among the overrides"):
        apply_overrides(cfg, ["--resume"])


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("batch_size=4", "dataloader.train.total_batch_size"),
        ("train.batch_size=4", "dataloader.train.total_batch_size"),
        ("train.lr=1", "optimizer.lr"),
        ("lr=1", "optimizer.lr"),
        ("learning_rate=1", "optimizer.lr"),
        ("num_queries=4", "model.decoder.num_queries"),
        ("model.num_queries=4", "model.decoder.num_queries"),
        ("max_iter=4", "train.max_iter"),
        ("optimizer.epochs=4", "train.epochs"),
        ("train.weights=a.pth", "train.init_checkpoint"),
        ("output_dir=a", "train.output_dir"),
        ("train.max_itr=4", "train.max_iter"),
        ("optimizer.wd=1", "optimizer.weight_decay"),
    ],
)
def test_a_field_is_found_wherever_it_stands(text, field):
    with pytest.raises(ValueError, match="there is no field") as error:
        apply_overrides(model_zoo.get_config("digits/smca_single_scale"), [text])
    hint = str(error.value).partition("; ")[2]
    assert hint.startswith((f"is it {field}?", f"the nearest is {field}")), hint
    # Adding it would change nothing.
    assert ("write +" in hint) == text.startswith(("optimizer.", "model."))


@pytest.mark.parametrize(
    "text", ["+train.new=1", "+train.new.deep=1", "+new={a: 1}", "+data.train_json=a.json"]
)
def test_a_field_that_nothing_reads_is_refused(text):
    cfg = model_zoo.get_config("digits/smca_single_scale")
    key = text[1:].partition("=")[0]
    with pytest.raises(
        ValueError, match=f"nothing in this config reads {key}, so it would have"
    ) as error:
        apply_overrides(cfg, [text])
    assert ("configs/custom_coco.py" in str(error.value)) == key.startswith("data.")


def test_a_field_that_another_refers_to_is_read():
    cfg = OmegaConf.create({"a": {"b": "${new.deep}", "c": ["${..d.e}"]}})
    apply_overrides(cfg, ["+new.deep=3", "+a.d.e=4"])
    assert cfg.a == {"b": 3, "c": [4], "d": {"e": 4}}


@pytest.mark.parametrize("name", ["custom_coco", "digits/custom_coco", "digits/fine_tune"])
def test_data_of_ones_own_is_read(name):
    cfg = model_zoo.get_config(name)
    apply_overrides(cfg, ["data.train_json=a.json", "+data.val_json=b.json"])
    assert cfg.dataloader.train.dataset.json_file == "a.json"
    assert cfg.dataloader.test.dataset.json_file == "b.json"
