import os

import numpy as np
from PIL import Image

from smca.whole_file import replacing


def save_png(image: np.ndarray, path: str | os.PathLike) -> None:
    """Write a picture, (height, width, 3) RGB uint8, as a whole or not at all; makes the folder."""
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with replacing(path) as partial:
        Image.fromarray(image).save(partial, format="PNG")
