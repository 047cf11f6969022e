import math

import pytest
import torch
from detectron2.config import LazyCall as L
from detectron2.config import instantiate
from omegaconf import OmegaConf
from torch.nn import functional as F

from helpers.builders import small_config
from helpers.oracles import focal_term
from smca.modeling import CrossEntropyClassification, FocalClassification


def test_focal_matching_cost_by_hand():
    # p = 0.5 and 0.8: 0.25 (1-p)^2 (-ln p) - 0.75 p^2 (-ln(1-p)).
    logits = torch.tensor([[0.0, math.log(4)]], dtype=torch.float64)

    cost = FocalClassification().matching_cost(logits, torch.tensor([0, 1, 1]))

    half = 0.25 * 0.25 * math.log(2) - 0.75 * 0.25 * math.log(2)
    sure = 0.25 * 0.04 * -math.log(0.8) - 0.75 * 0.64 * -math.log(0.2)
    torch.testing.assert_close(cost, torch.tensor([[half, sure, sure]], dtype=torch.float64))
    assert sure < half


@pytest.mark.parametrize("logit", [200.0, -200.0])
def test_focal_matching_cost_of_saturated_outputs_is_finite(logit):
    cost = FocalClassification().matching_cost(torch.tensor([[logit]]), torch.tensor([0]))

    assert cost.isfinite().all()


def test_focal_loss_equals_loops():
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64) * 3
    classes = torch.randint(6, (2, 3, 4))

    loss = FocalClassification(alpha=0.3, gamma=1.5).loss(logits, classes, 7.0)

    for layer in range(2):
        expected = sum(
            focal_term(logits[layer, b, q, k].item(), classes[layer, b, q].item() == k, 0.3, 1.5)
            for b in range(3)
            for q in range(4)
            for k in range(5)
        )
        assert loss[layer].item() == pytest.approx(expected / 7, rel=1e-12)


def test_cross_entropy_matching_cost_is_minus_the_probability():
    logits = torch.log(torch.tensor([[0.2, 0.5, 0.3]]))

    cost = CrossEntropyClassification().matching_cost(logits, torch.tensor([1, 0]))

    torch.testing.assert_close(cost, torch.tensor([[-0.5, -0.2]]))


def test_cross_entropy_loss_by_hand():
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    logits = probabilities.log().view(1, 1, 2, 3)
    classes = torch.tensor([[[1, 2]]])

    loss = CrossEntropyClassification(no_object_weight=0.1).loss(logits, classes, 1.0)

    expected = (-math.log(0.5) - 0.1 * math.log(0.8)) / 1.1
    assert loss.tolist() == pytest.approx([expected])


def test_cross_entropy_loss_is_a_weighted_mean_layer_by_layer():
    logits = torch.randn(2, 3, 4, 5)
    classes = torch.randint(5, (2, 3, 4))
    weight = torch.tensor([1, 1, 1, 1, 0.1])

    loss = CrossEntropyClassification().loss(logits, classes, 1.0)

    for layer in range(2):
        expected = F.cross_entropy(logits[layer].flatten(0, 1), classes[layer].flatten(), weight)
        torch.testing.assert_close(loss[layer], expected)


@pytest.mark.parametrize("part", ["heads", "criterion", "postprocessor", "criterion.matcher"])
def test_a_part_that_was_built_with_another_one_is_refused(part):
    config = small_config("smca_single_scale")
    OmegaConf.select(config, part).classification = L(CrossEntropyClassification)()
    with pytest.raises(ValueError, match=rf"model\.{part}\.classification is Cross.*set that one"):
        instantiate(config)


def test_setting_the_one_sets_all():
    config = small_config("smca_single_scale")
    config.classification = L(CrossEntropyClassification)(no_object_weight=0.3)
    model = instantiate(config)
    assert model.heads.classifier.out_features == 4
    for part in (model.criterion, model.criterion.matcher, model.postprocessor):
        assert part.classification == CrossEntropyClassification(no_object_weight=0.3)
