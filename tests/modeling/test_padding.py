"""What stands in padded cells must not matter anywhere from the neck on."""

import pytest
import torch

from helpers.builders import small_model

CHANNELS = {"res4": 32, "res5": 64}
STRIDES = {"res4": 16, "res5": 32}
NAMES = ["detr", "smca_single_scale", "smca"]


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
    return model.heads(decoded.hidden, decoded.center_logits)


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
