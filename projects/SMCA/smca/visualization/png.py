import os

import numpy as np
from PIL import Image


def save_png(image: np.ndarray, path: str | os.PathLike) -> None:
    """Write a picture, (height, width, 3) RGB uint8, as a whole or not at all; makes the folder."""
    path = os.fspath(path)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    partial = f"{path}.tmp"
    Image.fromarray(image).save(partial, format="PNG")
    os.replace(partial, path)
