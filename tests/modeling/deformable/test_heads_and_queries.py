"""How queries and boxes start, and which layer's head speaks."""

import pytest
import torch
from detectron2.config import instantiate

from helpers.builders import draw_parameters, small_config, small_model, training_input
from smca.modeling import DecoderOutput, FocalClassification
from smca.modeling.deformable import ContentQueries, DeformableHeads
from smca.modeling.plus import BoxRefinement

FOCAL = FocalClassification()


def heads(**options):
    return DeformableHeads(
        embed_dim=8, num_classes=3, classification=FOCAL, num_layers=3, **options
    )


def decoded(num_layers, **options):
    return DecoderOutput(torch.randn(num_layers, 2, 5, 8), torch.tensor([[64, 32]] * 2), **options)


def test_boxes_start_small_around_their_points():
    references = torch.randn(1, 2, 5, 2)

    boxes = heads()(decoded(3, references=references))["pred_boxes"]

    torch.testing.assert_close(boxes[..., :2], references.sigmoid().expand(3, -1, -1, -1))
    assert torch.equal(boxes[..., 2:], torch.full((3, 2, 5, 2), -2.0).sigmoid())


@pytest.mark.parametrize("count", [3, 1])
def test_each_layer_has_its_own_classifier(count):
    module = draw_parameters(heads(share_layers=False, predict_boxes=False))
    given = decoded(count, boxes=torch.randn(count, 2, 5, 4))

    outputs = module(given)

    for layer in range(count):
        classifier = module.classifier[3 - count + layer]
        torch.testing.assert_close(outputs["pred_logits"][layer], classifier(given.hidden[layer]))
    torch.testing.assert_close(outputs["pred_boxes"], given.boxes.sigmoid())


def test_own_classifiers_start_as_a_shared_one_does():
    for classifier in heads(share_layers=False).classifier:
        torch.testing.assert_close(classifier.bias.sigmoid(), torch.full((3,), 0.01))


def test_queries_have_content_and_a_point_of_their_position():
    module = draw_parameters(ContentQueries(num_queries=5, embed_dim=8))

    queries = module([], torch.ones(2, 2))

    assert queries.content.shape == queries.position.shape == (2, 5, 8)
    assert torch.equal(queries.content[1], module.content.weight)
    points = module.position.weight @ module.reference_points.weight.T
    torch.testing.assert_close(queries.references[0], points + module.reference_points.bias)


def test_refinement_gives_points_a_size_in_the_first_layer_only():
    step = BoxRefinement(embed_dim=8, num_layers=2, share_layers=False, initial_size=-2.0)
    hidden, point = torch.randn(1, 5, 8), torch.randn(1, 5, 2)

    first, reference = step(0, hidden, point)
    second, _ = step(1, hidden, reference)

    torch.testing.assert_close(first[..., :2], point)
    assert (first[..., 2:] == -2).all()
    torch.testing.assert_close(second, first)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_reference_beyond_the_border_is_100000_to_1(sign):
    step = BoxRefinement(embed_dim=8, num_layers=1)

    box, _ = step(0, torch.randn(1, 1, 8), torch.full((1, 1, 4), sign * float("inf")))

    nearest = torch.tensor(1e-5 if sign < 0 else 1 - 1e-5)
    torch.testing.assert_close(box.sigmoid(), nearest.expand(1, 1, 4), atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", ["deformable_detr_refine", "deformable_detr_two_stage"])
def test_a_layer_does_not_learn_through_the_next_ones_reference(name):
    """Its box loss alone moves its own step; gradients stop at every reference."""
    model = small_model(name, norm="FrozenBN").train()
    images = model.preprocess_images([training_input(64, 96, 2)])

    outputs, _ = model.run_network(images)
    outputs["pred_boxes"][1].sum().backward()

    first, second = model.decoder.refinement.steps
    assert not first.layers[-1].bias.grad.any()
    assert second.layers[-1].bias.grad.abs().max() > 0


def test_the_decoders_layers_keep_the_ring():
    model = instantiate(small_config("deformable_detr"))

    for layer in model.decoder.layers:
        assert not layer.co_attention.sampling_offsets.weight.any()
        assert layer.co_attention.sampling_offsets.bias.abs().max() == 4
    weights = [layer.co_attention.value.weight for layer in model.decoder.layers]
    assert not torch.equal(*weights)
