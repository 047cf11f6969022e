import math

import pytest
import torch

from smca.modeling import CrossEntropyClassification, FocalClassification, Postprocessor

FOCAL, SOFTMAX = FocalClassification(), CrossEntropyClassification()


def detections(classification, logits, boxes, sizes, max_detections=100):
    postprocessor = Postprocessor(classification=classification, max_detections=max_detections)
    return postprocessor({"pred_logits": logits, "pred_boxes": boxes}, sizes)


def logit(p):
    return math.log(p / (1 - p))


def boxes_of(num_queries):
    """Query q is centred at (0.1 (q + 1), 0.5) with width 0.1 and height 0.2."""
    rows = [[0.1 * (q + 1), 0.5, 0.1, 0.2] for q in range(num_queries)]
    return torch.tensor([rows])


def test_focal_takes_the_best_pairs_of_query_and_class():
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.2, 0.3, 0.7]])
    logits = scores.logit()[None]

    (result,) = detections(FOCAL, logits, boxes_of(2), [(100, 200)], 4)

    torch.testing.assert_close(result.scores, torch.tensor([0.9, 0.8, 0.7, 0.3]))
    assert result.pred_classes.tolist() == [0, 1, 2, 1]
    assert result.image_size == (100, 200)
    first, second = [10.0, 40.0, 30.0, 60.0], [30.0, 40.0, 50.0, 60.0]
    expected = torch.tensor([first, first, second, second])
    torch.testing.assert_close(result.pred_boxes.tensor, expected)


def test_softmax_leaves_no_object_out_and_answers_once_per_query():
    probabilities = torch.tensor([[[0.1, 0.15, 0.75], [0.5, 0.4, 0.1], [0.2, 0.6, 0.2]]])

    (result,) = detections(SOFTMAX, probabilities.log(), boxes_of(3), [(100, 200)], 100)

    torch.testing.assert_close(result.scores, torch.tensor([0.6, 0.5, 0.15]))
    assert result.pred_classes.tolist() == [1, 0, 1]
    torch.testing.assert_close(
        result.pred_boxes.tensor[:, 0], torch.tensor([50.0, 30.0, 10.0]), atol=1e-4, rtol=0
    )


def test_softmax_keeps_the_best_queries():
    probabilities = torch.tensor([[[0.1, 0.9], [0.5, 0.5], [0.6, 0.4]]])

    (result,) = detections(SOFTMAX, probabilities.log(), boxes_of(3), [(100, 200)], 2)

    torch.testing.assert_close(result.scores, torch.tensor([0.6, 0.5]))


def test_fewer_candidates_than_asked_for():
    (focal,) = detections(FOCAL, torch.randn(1, 4, 3), boxes_of(4), [(64, 64)], 100)
    (softmax,) = detections(SOFTMAX, torch.randn(1, 4, 3), boxes_of(4), [(64, 64)], 100)

    assert (len(focal), len(softmax)) == (12, 4)


def test_one_class():
    logits = torch.tensor([[[logit(0.2)], [logit(0.6)]]])

    (result,) = detections(FOCAL, logits, boxes_of(2), [(100, 200)], 100)

    torch.testing.assert_close(result.scores, torch.tensor([0.6, 0.2]))
    assert result.pred_classes.tolist() == [0, 0]
    expected = torch.tensor([[30.0, 40.0, 50.0, 60.0], [10.0, 40.0, 30.0, 60.0]])
    torch.testing.assert_close(result.pred_boxes.tensor, expected)


def test_images_keep_apart_and_scores_fall():
    logits, boxes = torch.randn(3, 20, 5).double(), torch.rand(3, 20, 4).double()
    sizes = [(64, 96), (128, 32), (50, 50)]

    for classification in (FOCAL, SOFTMAX):
        together = detections(classification, logits, boxes, sizes)
        for b, result in enumerate(together):
            one = slice(b, b + 1)
            (alone,) = detections(classification, logits[one], boxes[one], sizes[one])
            torch.testing.assert_close(result.scores, alone.scores)
            assert torch.equal(result.pred_classes, alone.pred_classes)
            torch.testing.assert_close(result.pred_boxes.tensor, alone.pred_boxes.tensor)
            assert (result.scores.diff() <= 0).all()
            assert result.image_size == sizes[b]


@pytest.mark.parametrize("limit", [0, -3, "x", 2.5, True, None])
def test_a_limit_that_is_none(limit):
    with pytest.raises(ValueError, match=f"max_detections is {limit!r}, it must be at least 1"):
        Postprocessor(classification=FOCAL, max_detections=limit)
