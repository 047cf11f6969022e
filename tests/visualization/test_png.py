import numpy as np
import pytest
from PIL import Image

from smca.visualization import save_png


def test_writes_what_it_was_given_and_makes_the_folder(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "a" / "b.png"
    save_png(image, path)
    np.testing.assert_array_equal(np.asarray(Image.open(path)), image)
    assert [p.name for p in path.parent.iterdir()] == ["b.png"]


def test_a_failure_leaves_the_earlier_picture(tmp_path):
    path = tmp_path / "a.png"
    save_png(np.zeros((2, 2, 3), np.uint8), path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_png(np.zeros((2, 2, 3), np.complex64), path)
    assert path.read_bytes() == before
