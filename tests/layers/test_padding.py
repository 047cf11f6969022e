"""What stands in padded cells must not matter anywhere from the neck on."""

import pytest
import torch
from detectron2.structures import ImageList

from helpers.builders import small_model
from smca.layers.padding import Border, padding_mask

CHANNELS = {"res3": 16, "res4": 32, "res5": 64}
STRIDES = {"res3": 8, "res4": 16, "res5": 32}
NAMES = [
    "detr",
    "smca_single_scale",
    "smca",
    "deformable_detr",
    "deformable_detr_refine",
    "deformable_detr_two_stage",
]


def built(name):
    return small_model(name).double().eval()


def features_of(height, width, batch):
    return {
        name: torch.randn(
            batch,
            CHANNELS[name],
            -(-height // stride),
            -(-width // stride),
            dtype=torch.float64,
        )
        for name, stride in STRIDES.items()
    }


def mask_of(sizes):
    height, width = (max(values) for values in zip(*sizes, strict=True))
    mask = torch.ones(len(sizes), height, width, dtype=torch.bool)
    for row, (h, w) in zip(mask, sizes, strict=True):
        row[:h, :w] = False
    return mask


@torch.no_grad()
def detect(model, features, sizes, mask):
    levels = model.encoder(model.neck(features, mask))
    image_sizes = torch.tensor([(w, h) for h, w in sizes], dtype=torch.float64)
    decoded = model.decoder(levels, image_sizes)
    return model.heads(decoded)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("sizes", [[(128, 192), (64, 128)], [(97, 131), (70, 90), (33, 131)]])
def test_padded_cells_of_the_features_change_nothing(name, training, sizes):
    model = built(name).train(training)
    mask = mask_of(sizes)
    height, width = mask.shape[1:]
    features = features_of(height, width, len(sizes))
    changed = {}
    for key, feature in features.items():
        h, w = feature.shape[-2:]
        # The mask at the feature's cells: nearest sampling by index arithmetic.
        rows = torch.arange(h) * height // h
        columns = torch.arange(w) * width // w
        padded = mask[:, rows][:, :, columns]
        assert padded[1].any()
        changed[key] = torch.where(padded[:, None], 50 * torch.randn_like(feature), feature)

    before, after = detect(model, features, sizes, mask), detect(model, changed, sizes, mask)

    for key in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(after[key], before[key], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_padded_image_gives_what_it_gives_alone(name):
    model = built(name)
    sizes = [(128, 192), (64, 128)]
    features = features_of(128, 192, 2)
    alone = {
        key: feature[1:, :, : 64 // STRIDES[key], : 128 // STRIDES[key]]
        for key, feature in features.items()
    }

    batched = detect(model, features, sizes, mask_of(sizes))
    single = detect(model, alone, sizes[1:], None)

    for key in ("pred_logits", "pred_boxes"):
        # Positions are float32.
        torch.testing.assert_close(batched[key][:, 1:], single[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_valid_cells_do_matter(name):
    model = built(name)
    sizes = [(128, 192), (64, 128)]
    features = features_of(128, 192, 2)
    before = detect(model, features, sizes, mask_of(sizes))
    for feature in features.values():
        feature[1, :, 0, 0] += 5

    after = detect(model, features, sizes, mask_of(sizes))

    difference = (after["pred_logits"] - before["pred_logits"]).abs().amax((0, 2, 3))
    assert difference[0] == 0
    assert difference[1] > 1e-3


def test_padding_mask():
    def mask_of(*sizes):
        batch = ImageList.from_tensors([torch.zeros(3, h, w) for h, w in sizes])
        return padding_mask(batch.tensor, batch.image_sizes)

    assert mask_of((4, 6), (4, 6)) is None
    mask = mask_of((4, 6), (5, 2))
    assert mask.shape == (2, 5, 6)
    assert (~mask[0]).nonzero().amax(0).tolist() == [3, 5]
    assert (~mask[0]).sum() == 24
    assert (~mask[1]).nonzero().amax(0).tolist() == [4, 1]
    assert (~mask[1]).sum() == 10


def test_border_zeroes_the_cells_that_an_image_alone_does_not_have():
    """5 and 3 rows of 8 at stride 2 are 3 and 2 cells; what is padded holds no numbers."""
    border = Border(mask_of([(5, 8), (8, 3)]))
    features = torch.full((2, 1, 4, 4), 7.0)
    features[0, :, 3:] = float("inf")

    zeroed = border.zero_(features)

    assert zeroed is features
    assert zeroed[0, 0].tolist() == [[7.0] * 4] * 3 + [[0.0] * 4]
    assert zeroed[1, 0].tolist() == [[7.0, 7.0, 0.0, 0.0]] * 4
    # Another map of the same batch.
    assert border.zero_(torch.ones(2, 1, 8, 8)).sum((1, 2, 3)).tolist() == [40.0, 24.0]
