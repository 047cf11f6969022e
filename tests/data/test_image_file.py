import numpy as np
import pytest
from PIL import Image

from helpers.odd_images import EITHER, fake_size, picture, write_odd_images
from smca.data.image_file import image_to_bgr, read_image


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory):
    return write_odd_images(tmp_path_factory.mktemp("odd"), 300)


def read_or_refuse(path):
    try:
        return read_image(path), None
    except ValueError as error:
        return None, str(error)


def test_each_is_read_as_a_viewer_shows_it_or_refused_by_name(odd_images):
    assert len(odd_images) == 300
    read = 0
    for odd in odd_images:
        image, sentence = read_or_refuse(odd.path)
        if image is None:
            assert odd.shown is None or odd.shown is EITHER, sentence
            assert sentence.startswith(f"{odd.path}: ")
            assert "\n" not in sentence
            continue
        assert odd.shown is not None, odd.path
        read += 1
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        if odd.shown is not EITHER:
            assert image.shape == odd.shown.shape, odd.path
            difference = np.abs(image[..., ::-1].astype(int) - odd.shown)
            assert difference.mean() <= odd.tolerance, odd.path
    assert read > 60
    assert sum(odd.shown is None for odd in odd_images) >= 25
    assert sum(odd.shown is EITHER for odd in odd_images) > 100


def test_the_limit_of_pixels(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(picture(40, 50)).save(path)
    assert read_image(path, max_pixels=2000).shape == (40, 50, 3)
    with pytest.raises(ValueError, match=r"image.png: .* 0.001999 million .*--max-pixels"):
        read_image(path, max_pixels=1999)


def test_a_raised_limit_passes_pils_own(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.fromarray(picture(40, 50)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="million pixels"):
        read_image(path, max_pixels=200)
    assert read_image(path, max_pixels=10_000).shape == (40, 50, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "JPEG", "PPM"])
def test_a_huge_claim_is_refused_before_memory_is_taken(tmp_path, kind, monkeypatch):
    path = tmp_path / "huge"
    path.write_bytes(fake_size(kind))
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(ValueError, match="huge: its header claims more than 100 million pixels"):
        read_image(path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "it is no regular file"),
        (lambda path: path.touch(), "it is empty"),
        (lambda path: path.write_text("hello"), "it is no image of a known format"),
    ],
)
def test_what_is_no_image(tmp_path, make, sentence):
    make(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match=rf"x\.jpg: {sentence}"):
        read_image(tmp_path / "x.jpg")


def test_pil_images():
    shown = picture()
    assert np.array_equal(image_to_bgr(Image.fromarray(shown)), shown[..., ::-1])
    with pytest.raises(ValueError, match="floating-point"):
        image_to_bgr(Image.fromarray(np.full((3, 3), np.nan, np.float32)))
    with pytest.raises(ValueError, match="from -1 to 70000"):
        image_to_bgr(Image.fromarray(np.array([[-1, 70000]], np.int32)))
