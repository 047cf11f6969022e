"""Released Deformable DETR and UP-DETR checkpoints, into our models and, of Deformable DETR, back."""

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from helpers.builders import draw_parameters, model_config, small_config, small_model
from helpers.goldens import drawn_weights, released_copies, released_keys
from smca.checkpoint import convert_released, load_initial_weights
from smca.checkpoint.conversion.class_columns import ABSENT_BIAS, COCO_CLASS_NAMES
from smca.checkpoint.conversion.convert_released import convert_to_released
from smca.model_zoo.convert_file import convert_state_dict

CATEGORY_IDS = [c["id"] for c in COCO_CATEGORIES if c["isthing"]]
CONFIGS = {
    "single": "deformable_detr_single_scale",
    "multi": "deformable_detr",
    "refine": "deformable_detr_refine",
    "two_stage": "deformable_detr_two_stage",
}
SMALL = list(CONFIGS.values())


def released(name):
    """The released names and shapes; row r of each classifier's bias holds r."""
    state = {
        key: torch.zeros(()).expand(shape)
        for key, shape in released_keys(f"deformable_{name}").items()
    }
    for key in [key for key in state if "class_embed" in key and key.endswith("bias")]:
        state[key] = torch.arange(91.0)
    return state


def shapes_of(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def small_released(name, **options):
    """A small model of ours with drawn weights, and the same under the released names."""
    model = draw_parameters(small_model(name, norm="FrozenBN", **options)).eval()
    return model, convert_to_released(model.state_dict())


@pytest.mark.parametrize("num_classes", [80, 91])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_names_and_shapes_are_the_models(name, num_classes):
    config = model_config(CONFIGS[name])
    config.num_classes = num_classes
    with torch.device("meta"):
        model = instantiate(config)

    assert shapes_of(convert_released(released(name), num_classes)) == shapes_of(model.state_dict())


def test_a_shared_classifier_keeps_cocos_categories():
    converted = convert_released(released("multi"), 80)

    assert converted["heads.classifier.bias"].tolist() == CATEGORY_IDS


def test_every_layers_own_classifier_does_and_the_encoders_its_first_column():
    converted = convert_released(released("two_stage"), 80)

    for layer in range(6):
        assert converted[f"heads.classifier.{layer}.bias"].tolist() == CATEGORY_IDS
    objectness = converted["decoder.query_embedding.proposals.objectness.bias"]
    assert objectness.tolist() == list(range(80))


def test_places():
    keys = released_keys("deformable_multi")
    state = drawn_weights(keys, 0, released_copies("deformable_multi"))

    converted = convert_released(state, 91)

    for ours, theirs in {
        "decoder.layers.2.norm1.weight": "transformer.decoder.layers.2.norm2.weight",
        "decoder.layers.2.norm2.weight": "transformer.decoder.layers.2.norm1.weight",
        "decoder.layers.4.norm3.bias": "transformer.decoder.layers.4.norm3.bias",
        "encoder.layers.5.norm2.bias": "transformer.encoder.layers.5.norm2.bias",
        "encoder.layers.1.attention.value.weight": (
            "transformer.encoder.layers.1.self_attn.value_proj.weight"
        ),
        "neck.norms.3.weight": "input_proj.3.1.weight",
        "neck.level_embedding": "transformer.level_embed",
        "heads.box.layers.1.bias": "bbox_embed.5.layers.1.bias",
        "backbone.res3.0.shortcut.weight": "backbone.0.body.layer2.0.downsample.0.weight",
    }.items():
        assert torch.equal(converted[ours], state[theirs]), ours
    queries = state["query_embed.weight"]
    assert torch.equal(converted["decoder.query_embedding.position.weight"], queries[:, :256])
    assert torch.equal(converted["decoder.query_embedding.content.weight"], queries[:, 256:])


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_back_again(name):
    keys = released_keys(f"deformable_{name}")
    state = drawn_weights(keys, 3, released_copies(f"deformable_{name}"))

    back = convert_to_released(convert_released(state, 91))

    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert back.keys() == state.keys()
    assert [k for k in state if not torch.equal(back[k], state[k])] == []


def test_classes_spread_to_category_ids():
    _, state = small_released("deformable_detr_two_stage", num_classes=80)
    ours = convert_released(state, 80)

    spread = convert_state_dict(ours, to_released=True, class_columns=91).state_dict

    bias = spread["class_embed.1.bias"]
    assert torch.equal(bias[CATEGORY_IDS], ours["heads.classifier.1.bias"])
    assert bias[0] == bias[12] == ABSENT_BIAS
    objectness = ours["decoder.query_embedding.proposals.objectness.bias"]
    assert torch.equal(spread["class_embed.2.bias"][:80], objectness)
    assert (spread["class_embed.2.bias"][80:] == ABSENT_BIAS).all()
    # What is spread is a release that converts to what it was.
    again = convert_released(spread, 80)
    assert [k for k in ours if not torch.equal(again[k], ours[k])] == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("multi", "class_embed.3.bias"),
        ("multi", "bbox_embed.2.layers.0.bias"),
        ("refine", "transformer.decoder.bbox_embed.2.layers.0.bias"),
        ("two_stage", "transformer.decoder.class_embed.6.bias"),
    ],
)
def test_copies_that_differ_are_refused(name, changed):
    state = released(name)
    state[changed] = state[changed] + 1

    with pytest.raises(ValueError, match=rf"'({changed}|[\w.]+)' should be the same as another"):
        convert_released(state, 80)


@pytest.mark.parametrize(
    "name", ["transformer.encoder.layers.0.norm3.bias", "backbone.0.body.fc.bias", "mask_head.x"]
)
def test_tensors_without_a_place_are_named(name):
    with pytest.raises(ValueError, match=name.removeprefix("backbone.0.body.")):
        convert_released(released("multi") | {name: torch.zeros(1)})


def test_columns_that_do_not_fit():
    with pytest.raises(ValueError, match=r"'class_embed\.\d\.\w+' has 91 class columns.*=20"):
        convert_released(released("refine"), 20)


def save(path, state):
    torch.save({"model": state}, path)
    return str(path)


@pytest.mark.parametrize("name", SMALL)
def test_a_training_starts_from_a_release(name, tmp_path):
    """Of COCO's ids, by the names of the classes."""
    source, state = small_released(name, num_classes=91)
    model = draw_parameters(small_model(name, norm="FrozenBN", num_classes=2), seed=7)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    load_initial_weights(model, save(tmp_path / "w.pth", state), class_names=("zebra", "gnu"))

    zebra = CATEGORY_IDS[COCO_CLASS_NAMES.index("zebra")]
    found, given = model.state_dict(), source.state_dict()
    rows = [k for k in found if k.startswith("heads.classifier.")]
    for key in rows:
        assert torch.equal(found[key][0], given[key][zebra]), key
        assert torch.equal(found[key][1], before[key][1]), key
    for key in found:
        if key not in rows:
            assert torch.equal(found[key], given[key][: len(found[key])]), key


@pytest.mark.parametrize("name", ["deformable_detr", "deformable_detr_two_stage"])
def test_more_queries_and_classes_without_names(name, tmp_path):
    source, state = small_released(name)
    config = small_config(name, num_classes=5, norm="FrozenBN")
    config.decoder.num_queries = 9
    model = instantiate(config)

    report = load_initial_weights(model, save(tmp_path / "w.pth", state))

    found, given = model.state_dict(), source.state_dict()
    resized = [k for k in found if k.startswith("decoder.query_embedding.")]
    assert [k for k in resized if not torch.equal(found[k][: len(given[k])], given[k])] == []
    assert [k for k in report.misshapen if "heads.classifier" not in k] == []


def test_up_detr_before_fine_tuning_is_all_but_its_pretext(tmp_path):
    source = draw_parameters(small_model("up_detr", norm="FrozenBN"))
    state = convert_to_released(source.state_dict())
    state["class_embed.weight"], state["class_embed.bias"] = torch.randn(3, 16), torch.randn(3)
    for part, shape in {
        "patch2query": (16, 64),
        "feature_align.layers.0": (16, 16),
        "feature_align.layers.1": (64, 16),
    }.items():
        state[f"{part}.weight"], state[f"{part}.bias"] = torch.randn(shape), torch.randn(shape[0])
    model = draw_parameters(small_model("up_detr", norm="FrozenBN", num_classes=2), seed=9)
    before = {k: v.clone() for k, v in model.state_dict().items()}

    report = load_initial_weights(model, save(tmp_path / "w.pth", state), class_names=("a", "b"))

    found, given = model.state_dict(), source.state_dict()
    classifier = ["heads.classifier.weight", "heads.classifier.bias"]
    assert report.missing == classifier
    assert not report.unknown
    for key in found:
        expected = before[key] if key in classifier else given[key]
        assert torch.equal(found[key], expected), key


def test_up_detr_fine_tuned_is_a_detr(tmp_path):
    source = draw_parameters(small_model("up_detr", norm="FrozenBN", num_classes=91))
    state = convert_to_released(source.state_dict())
    assert "transformer.encoder.norm.weight" in state

    converted = convert_released(state, 80)

    ids = torch.tensor([*CATEGORY_IDS, 91])
    assert torch.equal(converted["heads.classifier.bias"], source.heads.classifier.bias[ids])
    assert torch.equal(converted["encoder.norm.bias"], source.encoder.norm.bias)
