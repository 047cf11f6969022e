import pytest
import torch
from detectron2.config import instantiate
from detectron2.modeling import META_ARCH_REGISTRY
from omegaconf import OmegaConf

from helpers.builders import draw_parameters, small_config, small_model, training_input
from smca.errors import InputError
from smca.modeling import SMCA

NAMES = [
    "detr",
    "detr_published",
    "up_detr",
    "smca_single_scale",
    "smca",
    "deformable_detr_single_scale",
    "deformable_detr",
    "deformable_detr_refine",
    "deformable_detr_two_stage",
]
SOFTMAX = ("detr_published", "up_detr")
QUERIES, LAYERS = 7, 2
# Odd sizes; one image without objects, one with more than there are queries.
BATCH = [(97, 131, 3), (64, 150, 0), (33, 40, 12)]


def batch_of(triples=BATCH, **options):
    return [
        training_input(height, width, count, seed=seed, **options)
        for seed, (height, width, count) in enumerate(triples)
    ]


def test_is_registered():
    assert META_ARCH_REGISTRY.get("SMCA") is SMCA


@pytest.mark.parametrize("name", NAMES)
def test_training_gives_finite_losses_of_every_layer(name):
    losses = small_model(name).train()(batch_of())

    suffixes = [("", ""), ("", "_0")]
    if name == "deformable_detr_two_stage":
        suffixes.append(("enc_", ""))
    assert losses.keys() == {
        f"{before}loss_{kind}{behind}"
        for kind in ("ce", "bbox", "giou")
        for before, behind in suffixes
    }
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.isfinite()
        assert loss > 0


@pytest.mark.parametrize("name", NAMES)
def test_inference_gives_instances_of_every_image(name):
    model = small_model(name).eval()

    with torch.no_grad():
        results = model(batch_of())

    num_candidates = QUERIES if name in SOFTMAX else QUERIES * 3
    for (height, width, _), result in zip(BATCH, results, strict=True):
        instances = result["instances"]
        boxes = instances.pred_boxes.tensor
        assert instances.image_size == (height, width)
        assert 0 < len(instances) <= num_candidates
        assert instances.pred_classes.max() < 3
        assert (instances.scores.diff() <= 0).all()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()


@pytest.mark.parametrize("name", NAMES)
def test_one_class(name):
    model = small_model(name, num_classes=1)
    batch = batch_of(num_classes=1)

    assert all(loss.isfinite() for loss in model.train()(batch).values())
    with torch.no_grad():
        results = model.eval()(batch)
    assert all((result["instances"].pred_classes == 0).all() for result in results)


@pytest.mark.parametrize("name", NAMES)
def test_training_on_images_without_objects(name):
    losses = small_model(name).train()(batch_of([(64, 64, 0), (50, 70, 0)]))

    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_bbox"] == losses["loss_giou"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_raw_outputs(name):
    model = small_model(name).eval()
    batch = batch_of()

    with torch.no_grad():
        outputs = model.raw_outputs(batch)

    num_outputs = 4 if name in SOFTMAX else 3
    assert outputs["pred_logits"].shape == (LAYERS, 3, QUERIES, num_outputs)
    assert outputs["pred_boxes"].shape == (LAYERS, 3, QUERIES, 4)
    assert ((outputs["pred_boxes"] >= 0) & (outputs["pred_boxes"] <= 1)).all()
    # Detections are the last layer's outputs.
    with torch.no_grad():
        best = model(batch[:1])[0]["instances"].scores[0]
        logits = model.raw_outputs(batch[:1])["pred_logits"][-1, 0]
    probabilities = logits.softmax(-1)[:, :-1] if name in SOFTMAX else logits.sigmoid()
    torch.testing.assert_close(best, probabilities.max())


@pytest.mark.parametrize("name", NAMES)
def test_detections_in_a_batch_are_those_of_single_images(name):
    model = small_model(name).double().eval()
    # Alone, sizes that are multiples of no stride; together, some that are.
    batch = batch_of([*BATCH, (128, 192, 0)])

    with torch.no_grad():
        together = model(batch)
        alone = [model([item])[0] for item in batch]

    for found, expected in zip(together, alone, strict=True):
        found, expected = found["instances"], expected["instances"]
        assert torch.equal(found.pred_classes, expected.pred_classes)
        for field in (lambda i: i.scores, lambda i: i.pred_boxes.tensor):
            torch.testing.assert_close(field(found), field(expected), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["detr", "smca"])
def test_losses_of_a_batch_are_those_of_single_images(name):
    # Norms whose statistics are not the batch's.
    model = small_model(name, norm="FrozenBN").double().train()
    batch = batch_of()
    num_boxes = float(model.count_boxes(batch))

    together = model(batch, num_boxes)
    sum(together.values()).backward()
    gradient = model.backbone.res3[0].conv1.weight.grad.clone()
    model.zero_grad()
    alone = [model([item], num_boxes) for item in batch]
    sum(sum(losses.values()) for losses in alone).backward()

    for key, value in together.items():
        torch.testing.assert_close(value, sum(losses[key] for losses in alone))
    torch.testing.assert_close(model.backbone.res3[0].conv1.weight.grad, gradient)
    assert gradient.abs().max() > 1e-6


def test_without_isolation_padding_leaks_as_in_the_released_models():
    config = small_config("smca")
    config.isolate_images = False
    model = draw_parameters(instantiate(config)).eval()
    batch = batch_of()

    with torch.no_grad():
        found = model(batch)[0]["instances"].scores
        as_released = model.raw_outputs(batch)["pred_logits"][-1, 0].sigmoid().flatten()
        alone = model(batch[:1])[0]["instances"].scores

    torch.testing.assert_close(found, as_released.sort(descending=True).values[: len(found)])
    assert (found - alone).abs().max() > 1e-4


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_trainable_parameter(name, share):
    config = small_config(name)
    if "share_attention" in config.encoder:
        config.encoder.share_attention = config.encoder.share_ffn = share
        config.decoder.share_key_value = share
    model = draw_parameters(instantiate(config)).train()
    if hasattr(model.decoder.modulation, "reset_parameters"):
        # The zeros that scales start from must not keep them from learning.
        model.decoder.modulation.reset_parameters()

    sum(model(batch_of()).values()).backward()

    silent = {
        parameter_name
        for parameter_name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().max() > 1e-9
    }
    # In DETR's first layer all values are zero, so it does not matter which query looks at which.
    first = "decoder.layers.0."
    assert silent <= {f"{first}self_attention.in_proj_weight", f"{first}norm1.weight"}
    assert f"{first}norm1.weight" not in silent or name == "up_detr"


@pytest.mark.parametrize("name", ["detr", "smca"])
def test_frozen_parameters_stay_without_gradient(name):
    config = small_config(name, norm="FrozenBN")
    config.backbone.freeze_at = 2
    model = instantiate(config).train()

    sum(model(batch_of()).values()).backward()

    for parameter_name, parameter in model.named_parameters():
        frozen = parameter_name.startswith(("backbone.stem", "backbone.res2"))
        assert (parameter.grad is None) == frozen, parameter_name


@pytest.mark.parametrize("name", NAMES)
def test_training_without_dropout_sees_what_inference_sees(name):
    model = small_model(name, norm="FrozenBN")
    batch = batch_of()

    with torch.no_grad():
        training = model.train().raw_outputs(batch)
        inference = model.eval().raw_outputs(batch)

    for key, value in training.items():
        torch.testing.assert_close(value, inference[key])


@pytest.mark.parametrize("name", NAMES)
def test_batch_of_equal_sizes_gives_what_single_images_give(name):
    model = small_model(name).double().eval()
    batch = batch_of([(97, 131, 0)] * 3)

    with torch.no_grad():
        together = model.raw_outputs(batch)
        alone = [model.raw_outputs([item]) for item in batch]

    for key, value in together.items():
        expected = torch.cat([outputs[key] for outputs in alone], dim=1)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-9)
        assert (value[:, 0] - value[:, 1]).abs().max() > 1e-6


def test_outputs_need_no_targets_and_ignore_the_wanted_size():
    model = small_model("smca").eval()
    batch = batch_of()
    bare = [{"image": item["image"], "height": 20, "width": 50} for item in batch]

    with torch.no_grad():
        expected, outputs = model.raw_outputs(batch), model.raw_outputs(bare)

    for key, value in outputs.items():
        assert torch.equal(value, expected[key])


@pytest.mark.parametrize("training", [False, True])
def test_decoder_is_given_the_unpadded_width_and_height(training):
    model = small_model("smca").train(training)
    given = []
    model.decoder.register_forward_pre_hook(lambda _, arguments: given.append(arguments[1]))

    with torch.no_grad():
        model(batch_of())

    assert given[0].tolist() == [[width, height] for height, width, _ in BATCH]


def test_detections_come_in_the_wanted_size():
    model = small_model("smca").eval()
    (item,) = batch_of([(64, 96, 0)])

    with torch.no_grad():
        own = model([item])[0]["instances"]
        wanted = model([item | {"height": 128, "width": 48}])[0]["instances"]

    assert wanted.image_size == (128, 48)
    scaled = own.pred_boxes.tensor * torch.tensor([0.5, 2, 0.5, 2])
    torch.testing.assert_close(wanted.pred_boxes.tensor, scaled)


def test_images_are_normalised_by_channel_and_zero_padded():
    model = small_model("detr")
    images = model.preprocess_images(
        [{"image": torch.full((3, 4, 6), 100.0)}, {"image": torch.full((3, 5, 2), 100.0)}]
    )

    assert images.image_sizes == [(4, 6), (5, 2)]
    expected = (100 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor(
        [58.395, 57.12, 57.375]
    )
    torch.testing.assert_close(images.tensor[0, :, 0, 0], expected)
    assert (images.tensor[0, :, 4:] == 0).all()
    assert (images.tensor[1, :, :, 2:] == 0).all()


def test_targets_are_relative_to_the_unpadded_image():
    model = small_model("detr")
    item = training_input(50, 200, 1)
    item["instances"].gt_boxes.tensor[:] = torch.tensor([20.0, 10.0, 60.0, 20.0])

    (target,) = model.prepare_targets([item])

    torch.testing.assert_close(target.boxes, torch.tensor([[0.2, 0.3, 0.2, 0.2]]))
    assert torch.equal(target.labels, item["instances"].gt_classes)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "neck.in_channels",
            [32, 48],
            r"'res5' has 64 channels at stride 32, neck.in_channels says 48",
        ),
        (
            "neck.in_strides",
            [8, 32],
            r"'res4' has 32 channels at stride 16, neck.in_strides says 8",
        ),
        ("neck.in_features", ["res3", "res5"], "wants backbone feature 'res3'"),
        ("encoder.num_levels", 2, "gives 3 levels, encoder.num_levels is 2"),
        ("decoder.num_levels", 1, "decoder.num_levels 1; make them equal"),
        ("encoder.num_heads", 3, r"embed_dim \(16\) must be divisible by num_heads \(3\)"),
    ],
)
def test_parts_that_do_not_fit_are_an_error(path, value, words):
    config = small_config("smca")
    if path == "neck.in_strides":
        config.neck.strides = [8, 32, 64]
    part, field = path.split(".")
    config[part][field] = value

    with pytest.raises(ValueError, match=words):
        instantiate(config)


@pytest.mark.parametrize(
    ("experiment", "path", "part"),
    [
        ("smca", "heads", "DetectionHeads in the heads"),
        ("smca_plus", "decoder.queries", "DenoisingQueries in the decoder"),
        ("smca_plus", "decoder.queries.queries.queries", "SelectedQueries in the decoder"),
        ("deformable_detr_two_stage", "decoder.queries", "EncoderProposals in the decoder"),
    ],
)
def test_parts_for_other_classes_are_an_error(experiment, path, part):
    config = small_config(experiment)
    OmegaConf.update(config, f"{path}.num_classes", 7)
    with pytest.raises(InputError, match=f"{part} was built for 7 classes, the model has 3"):
        instantiate(config)


@pytest.mark.parametrize(("wanted", "side"), [(0, 128), (24, 192), (32, 128)])
def test_padding_suits_the_backbone_and_the_levels(wanted, side, monkeypatch):
    """Strides up to 64, and a backbone that wants multiples of its own."""
    model = small_model("smca")
    monkeypatch.setattr(type(model.backbone), "size_divisibility", wanted, raising=False)
    images = [{"image": torch.zeros(3, *size)} for size in ((70, 100), (100, 70))]
    assert model.preprocess_images(images, isolate=True).tensor.shape[-2:] == (side, side)


@pytest.mark.parametrize("part", ["decoder", "heads", "criterion", "postprocessor"])
def test_a_part_that_is_missing(part):
    config = small_config("smca")
    config[part] = None
    with pytest.raises(ValueError, match=f"{part} is None, it must be callable"):
        instantiate(config)


@pytest.mark.parametrize("safe", [True, False])
def test_a_cpu_trains_channels_last_only_where_the_backbone_can(safe, monkeypatch):
    """A strided 1x1 convolution of another backbone would write out of bounds."""
    model = small_model("smca_single_scale").train()
    backbone = model.backbone
    if not safe:
        monkeypatch.delattr(type(backbone), "trains_channels_last")
    seen = []
    backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    model(batch_of())
    model.eval()
    with torch.no_grad():
        model([{"image": torch.zeros(3, 64, 96)}])

    channels_last = [x.is_contiguous(memory_format=torch.channels_last) for x in seen]
    assert channels_last == [safe, True]
