"""All parts together, in models as they are trained and used."""

import contextlib
import copy

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate

from helpers.builders import draw_parameters, small_config, small_model, training_input
from helpers.distributed import save_gradients
from helpers.own_parts import TrainAndPredict
from smca.checkpoint.loading.class_rows import NamedClasses, carry_class_rows
from smca.configs.models.plus import use_parts
from smca.engine import launch
from smca.modeling import FocalClassification
from smca.visualization import detection_priors

NAMES = ["smca_plus_single_scale", "smca_plus"]
EMPTY = [0, 0]
COUNTS = [EMPTY, [3, 0], [2, 9]]


def batch(counts):
    """Of two sizes, so that there is a padding mask."""
    sizes = [(64, 96), (96, 70)]
    return [
        training_input(*size, count, seed=index)
        for index, (size, count) in enumerate(zip(sizes, counts, strict=True))
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_every_parameter_learns_from_any_batch(name, counts):
    """Or several processes would wait for each other. Without objects what is left are classes."""
    model = small_model(name, norm="FrozenBN").train()
    losses = model(batch(counts))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    trainable = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert [n for n, gradient in trainable.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in trainable.values())
    groups = {key.rsplit("loss", 1)[0] for key in losses}
    assert groups == {
        "",
        "encoder_",
        "group1_",
        "group1_encoder_",
        "group2_",
        "group2_encoder_",
        "denoising_",
    }


@pytest.mark.parametrize("name", NAMES)
def test_inference_has_one_group_and_no_noise(name):
    model = small_model(name).eval()
    images = model.preprocess_images([{"image": torch.zeros(3, 64, 96)}])
    drawn = torch.get_rng_state()
    with torch.no_grad():
        outputs, decoded = model.run_network(images)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert outputs["pred_logits"].shape[:3] == (2, 1, 7)
    assert outputs.keys() == {"pred_logits", "pred_boxes"}
    torch.testing.assert_close(outputs["pred_boxes"], decoded.boxes.sigmoid())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_recomputed_activations_change_no_bit(name, dtype):
    config = small_config(name, norm="FrozenBN")
    config.encoder.dropout = 0.3
    kept = instantiate(config)
    for part in (kept.neck, kept.encoder, kept.decoder, kept.heads):
        draw_parameters(part)
    again = copy.deepcopy(kept)
    again.encoder.activation_checkpointing = again.decoder.activation_checkpointing = True
    results = []
    for model in (kept, again):
        torch.manual_seed(3)
        with contextlib.nullcontext() if dtype is None else torch.autocast("cpu", dtype):
            losses = model.train()(batch([3, 1]))
        sum(losses.values()).backward()
        results.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert [n for n in results[0] if not torch.equal(results[0][n], results[1][n])] == []


def gradients(tmp_path, processes, accumulate_steps):
    path = tmp_path / f"{processes}_{accumulate_steps}.pth"
    launch(
        save_gradients,
        args=(str(path), [2, 1, 4, 3], accumulate_steps, "smca_plus_single_scale"),
        device="cpu",
        num_processes=processes,
    )
    return torch.load(path)


def test_two_processes_and_two_passes_give_the_gradients_of_one(tmp_path):
    one = gradients(tmp_path, 1, 1)
    for processes, accumulate_steps in ((2, 1), (1, 2)):
        other = gradients(tmp_path, processes, accumulate_steps)
        assert other["gradients"].keys() == one["gradients"].keys()
        for name, gradient in one["gradients"].items():
            scale = gradient.abs().max().item()
            torch.testing.assert_close(
                other["gradients"][name], gradient, atol=2e-5 * scale + 1e-8, rtol=1e-4, msg=name
            )


@pytest.mark.parametrize("base", ["smca_single_scale", "smca"])
@pytest.mark.parametrize("parts", ["A", "C", "D", "CD", "AB", "AE"])
def test_a_part_works_without_the_others(base, parts):
    config = small_config(base, norm="FrozenBN")
    use_parts(config, parts)
    model = instantiate(config).train()
    losses = model(batch([3, 0]))
    sum(losses.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert ("group2_loss_ce" in losses) == ("C" in parts)
    assert ("denoising_loss_ce" in losses) == ("B" in parts)
    assert ("encoder_loss_ce" in losses) == ("E" in parts)
    with torch.no_grad():
        (found,) = model.eval()([{"image": torch.zeros(3, 64, 96, dtype=torch.uint8)}])
    assert len(found["instances"]) > 0


def nothing(model):
    """The config as it is."""


@pytest.mark.parametrize("name", NAMES)
def test_trains_predicts_and_resumes_bit_identical(name, tmp_path):
    """Noise follows from seed and iteration, as dropout does."""
    training = TrainAndPredict(tmp_path)
    done = training(nothing, base=name)
    for key in ("loss_ce", "encoder_loss_giou", "group2_loss_ce", "denoising_loss_bbox_0"):
        assert key in done["metrics"]
    whole = {key: value.clone() for key, value in done["model"].state_dict().items()}
    torch.manual_seed(99)
    resumed = training.resume(nothing, base=name)
    assert [key for key, value in resumed.items() if not torch.equal(value, whole[key])] == []


def test_a_source_with_another_classification_is_refused():
    config = small_config(NAMES[0])
    selection = config.decoder.queries.queries.queries
    selection.classification = L(FocalClassification)()
    with pytest.raises(
        ValueError, match=r"query_embedding\.queries\.groups\.0\.classification is Focal"
    ):
        instantiate(config)


def test_rows_of_classes_go_along_by_name():
    """Labels of denoising and classes of proposals, beside those of the heads."""
    own, given = (small_model(NAMES[0], num_classes=n).state_dict() for n in (2, 3))
    names = NamedClasses(source=("cat", "dog", "cow"), target=("cow", "cat"))
    carried = carry_class_rows(own, given, names)
    source = "decoder.query_embedding."
    for name in (f"{source}label.weight", f"{source}queries.groups.2.classifier.bias"):
        assert torch.equal(carried[name], given[name][[2, 0]])
    assert len(carried) == 2 + 1 + 3 * 2


def test_the_prior_is_drawn_around_its_box():
    """Half a cell off it would not be: heads start evenly around the middle of the reference."""
    model = instantiate(small_config(NAMES[0])).eval()
    image = {"image": torch.zeros(3, 96, 128, dtype=torch.uint8)}
    for found in detection_priors(model, image):
        middle = found.head_centers[0].mean(0)
        np.testing.assert_allclose(middle, found.center, atol=1e-3)
        np.testing.assert_allclose(middle, (found.box[:2] + found.box[2:]) / 2, atol=1e-3)
        heat = found.maps[0].mean(0)
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        inside = np.clip(found.center, 0, [127, 95])
        assert np.abs([x, y] - inside).max() < 3
