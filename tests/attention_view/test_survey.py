"""Figures over many images, against a case that is counted by hand and against the views themselves."""

import numpy as np
import pytest

from helpers.checkpoints import tiny_checkpoint
from helpers.odd_images import picture
from smca import Predictor
from smca.attention_view import LayerView, QueryView
from smca.attention_view.survey import look_at_images, looked_at, summarize


def view_of(box, center, half, weights):
    """One layer, two levels of 2 x 2 cells of 16 and 32 pixels, one head that looks at the upper left cell only."""
    cells = np.array([[[1.0, 0.0], [0.0, 0.0]]])
    flat = np.full((1, 2, 2), 0.25)
    layer = LayerView(
        box=np.array(box, dtype=float),
        center=np.array(center, dtype=float),
        centers=np.tile(center, (2, 1, 1)).astype(float),
        half_axes=np.array([[half], [[1.0, 1.0]]], dtype=float),
        priors=[flat, flat],
        before=[flat, flat],
        after=[cells, cells],
        level_weights=np.array(weights),
    )
    return QueryView(0, (64, 64), (16, 32), 0.5, [layer], ())


def test_figures_of_two_detections_by_hand():
    # Of cells with their middles at half a stride the first one covers 0 to 16, or 0 to 32 pixels.
    small = looked_at(view_of((0, 0, 16, 16), (8, 8), (4, 9), (0.75, 0.25)))
    large = looked_at(view_of((0, 0, 30, 40), (15, 45), (8, 18), (1.0, 0.0)), 2.0)
    assert small.box_side == pytest.approx(16)
    assert small.prior_side == pytest.approx(12)
    assert small.centers == [(0.0, True)]
    # A side of the image is 64 pixels.
    assert small.box_share == pytest.approx(1 / 16)
    assert looked_at(view_of((-9, 32, 90, 70), (0, 0), (4, 9), (1.0, 0.0))).box_share == 0.5
    assert large.box_side == pytest.approx(2 * np.sqrt(1200))
    assert large.prior_side == pytest.approx(2 * 24)
    assert large.centers == [(0.5, False)]
    # All of the fine cell, and a quarter of the coarse one; unmodulated a quarter and a sixteenth.
    assert small.attention[0] == pytest.approx((0.75 / 4 + 0.25 / 16, 0.75 + 0.25 / 4))

    (model,) = summarize([("both", [small, large])])
    assert model["detections"] == 2
    assert model["box_share"] == pytest.approx((256 + 1200) / 2 / 64**2, abs=1e-4)
    assert model["layers"][0]["center_distance"] == pytest.approx(0.25)
    assert model["layers"][0]["center_in_box"] == pytest.approx(0.5)
    assert model["prior"]["correlation"] == pytest.approx(1)
    assert model["prior"]["sides"] == [[16.0, 12.0], [69.3, 48.0]]
    first, *_, last = model["scales"]["groups"]
    assert (first["from"], first["detections"], first["weights"]) == (16.0, 1, [0.75, 0.25])
    assert (last["to"], last["detections"], last["weights"]) == (69.3, 1, [1.0, 0.0])


@pytest.mark.parametrize("name", ["smca", "detr", "deformable_detr"])
def test_every_detection_is_counted_once_and_what_a_model_lacks_is_none(tmp_path, name):
    path = tiny_checkpoint(tmp_path / "model.pth", name)
    predictor = Predictor.from_checkpoint(path, device="cpu")
    image = picture(64, 90)
    found = look_at_images(predictor, [image], threshold=0.0)
    twice, none = summarize([("twice", [*found, *found]), ("none", [])])
    assert twice["detections"] == 2 * len(found) > 0
    nothing = dict.fromkeys(("box_share", "prior", "scales"))
    assert none == {"model": "none", "detections": 0, "layers": [], **nothing}
    assert len(twice["layers"]) == 2
    for layer in twice["layers"]:
        assert 0 < layer["attention_after"] <= 1
        assert (layer["center_distance"] is None) == (name != "smca")
        assert (layer["attention_before"] is None) == (name != "smca")
    assert (twice["prior"] is None) == (name != "smca")
    assert (twice["scales"] is None) == (name == "detr")
    for group in (twice["scales"] or {"groups": []})["groups"]:
        if group["weights"]:
            assert sum(group["weights"]) == pytest.approx(1, abs=1e-3)
    assert look_at_images(predictor, [image], threshold=1.0) == []
