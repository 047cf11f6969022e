import dataclasses

import numpy as np
import pytest
import sklearn.datasets
from pycocotools import mask as coco_mask

from smca.data import CLASSES, DigitsSpec, compose_image, load_sources
from smca.data.digits.sources import PHOTO_COLUMNS

SPECS = {
    "default": DigitsSpec(),
    "portrait": DigitsSpec(image_height=140, image_width=50, digit_max=30, min_aspect=0.7),
    "larger than the photos": DigitsSpec(
        image_height=480, image_width=640, digit_max=300, max_objects=20, min_aspect=0.9
    ),
    "crowded": DigitsSpec(max_objects=60, max_overlap=0.0, digit_max=30, empty_fraction=0.0),
    "small and faint": DigitsSpec(digit_min=6, digit_max=8, min_opacity=0.05, blur=0.0, dim=1.0),
}


@pytest.fixture(scope="module")
def sources():
    return load_sources(DigitsSpec())


@pytest.fixture(params=SPECS.values(), ids=SPECS.keys())
def spec(request):
    return request.param


def test_image_and_boxes_are_within_the_spec(spec, sources):
    for index in range(15):
        image, digits = compose_image(spec, "train", index, sources)
        height, width = image.shape[:2]
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert spec.min_aspect * spec.image_height <= height <= spec.image_height
        assert spec.min_aspect * spec.image_width <= width <= spec.image_width
        assert len(digits) <= spec.max_objects
        for digit in digits:
            x, y, w, h = digit.box
            assert x >= 0
            assert y >= 0
            assert x + w <= width
            assert y + h <= height
            # Cutting faint rims may take a pixel off each end.
            assert spec.digit_min - 2 <= max(w, h) <= spec.digit_max
            assert min(w, h) >= 1


def test_boxes_hardly_overlap(spec, sources):
    pairs = 0
    for index in range(15):
        _, digits = compose_image(spec, "train", index, sources)
        if len(digits) < 2:
            continue
        boxes = np.array([digit.box for digit in digits])
        # With "crowd" boxes pycocotools divides by the first box's area instead of the union.
        share = coco_mask.iou(boxes, boxes, [1] * len(boxes))
        np.fill_diagonal(share, 0)
        assert share.max() <= spec.max_overlap + 1e-9
        pairs += 1
    assert pairs > 3


@pytest.mark.parametrize("split", ["train", "val"])
def test_box_is_exactly_where_a_digit_changed_the_background(split, sources):
    spec = DigitsSpec(max_objects=1, empty_fraction=0.0)
    bare = dataclasses.replace(spec, empty_fraction=1.0)
    for index in range(25):
        image, (digit,) = compose_image(spec, split, index, sources)
        background, nothing = compose_image(bare, split, index, sources)
        assert nothing == []
        changed = (image != background).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        x, y, w, h = digit.box
        assert (rows[0], rows[-1] + 1) == (y, y + h)
        assert (columns[0], columns[-1] + 1) == (x, x + w)


def test_digit_is_brighter_than_what_it_covers(sources):
    spec = DigitsSpec(max_objects=1, empty_fraction=0.0)
    bare = dataclasses.replace(spec, empty_fraction=1.0)
    for index in range(25):
        image, (digit,) = compose_image(spec, "val", index, sources)
        background, _ = compose_image(bare, "val", index, sources)
        x, y, w, h = (int(v) for v in digit.box)
        window = np.s_[y : y + h, x : x + w]
        gain = image[window].max(axis=2).astype(int) - background[window].max(axis=2)
        assert gain.max() > 30


def test_image_depends_only_on_seed_split_and_index(sources):
    spec = DigitsSpec(train_images=10)
    image, digits = compose_image(spec, "train", 7, sources)
    compose_image(spec, "train", 3, sources)
    again, same_digits = compose_image(
        dataclasses.replace(spec, train_images=9, val_images=1), "train", 7, load_sources(spec)
    )
    assert np.array_equal(image, again)
    assert digits == same_digits

    others = [
        compose_image(spec, "train", 8, sources),
        compose_image(spec, "val", 7, sources),
        compose_image(dataclasses.replace(spec, seed=1), "train", 7, sources),
    ]
    assert all(not np.array_equal(image, other) for other, _ in others)


def test_label_is_the_class_of_the_sample_and_samples_stay_in_their_split(sources):
    target = sklearn.datasets.load_digits().target
    spec = DigitsSpec()
    used = {"train": set(), "val": set()}
    for split in used:
        labels = set()
        for index in range(40):
            _, digits = compose_image(spec, split, index, sources)
            assert all(target[digit.sample] == digit.label for digit in digits)
            used[split].update(digit.sample for digit in digits)
            labels.update(digit.label for digit in digits)
        assert labels == set(range(len(CLASSES)))
        assert used[split] <= set(np.concatenate(sources.samples[split]))
    assert not used["train"] & used["val"]


def test_every_sample_is_in_one_split(sources):
    everything = np.concatenate(sources.samples["train"] + sources.samples["val"])
    assert sorted(everything) == list(range(1797))
    assert all(len(sources.samples["val"][label]) >= 30 for label in range(len(CLASSES)))


def test_photo_regions_are_disjoint_and_do_not_blur_into_each_other(sources, monkeypatch):
    real = sklearn.datasets.load_sample_image

    def with_black_train_columns(name):
        photo = real(name).copy()
        start, end = PHOTO_COLUMNS["train"][name]
        photo[:, start:end] = 0
        return photo

    monkeypatch.setattr(sklearn.datasets, "load_sample_image", with_black_train_columns)
    blackened = load_sources(DigitsSpec())
    assert all((photo == 0).all() for photo in blackened.photos["train"])
    for photo, other in zip(sources.photos["val"], blackened.photos["val"], strict=True):
        assert np.array_equal(photo, other)
        assert photo.std() > 5


def test_shares_of_empty_and_of_varied_images(sources):
    spec = DigitsSpec(empty_fraction=0.2, varied_fraction=0.5, digit_max=40)
    images = [compose_image(spec, "train", index, sources) for index in range(200)]
    empty = np.mean([not digits for _, digits in images])
    varied = np.mean([image.shape[:2] != (128, 128) for image, _ in images])
    wide = np.mean([image.shape[0] < image.shape[1] for image, _ in images])
    assert 0.1 < empty < 0.3
    assert 0.38 < varied < 0.62
    assert 0.15 < wide < 0.35


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("digit_max", 200),
        ("digit_max", 5),
        ("digit_min", 1),
        ("max_objects", 0),
        ("train_images", 0),
        ("empty_fraction", 1.5),
        ("dim", float("nan")),
        ("image_width", 4),
    ],
)
def test_setting_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=r"DigitsSpec\.\w+ must be between"):
        DigitsSpec(**{field: value})
