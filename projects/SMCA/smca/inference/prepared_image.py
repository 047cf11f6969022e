"""Images of any kind as a detector takes them."""

import dataclasses
import os

import detectron2.data.transforms as T
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from smca.data.image_file import image_to_bgr, read_image
from smca.errors import InputError

ImageLike = np.ndarray | Image.Image | str | os.PathLike
"""(height, width, 3) BGR uint8, a PIL image of any mode, or a path."""


@dataclasses.dataclass(frozen=True)
class PreparedImage:
    """
    Attributes:
        pixels: (3, height', width') uint8, resized, in the model's channel order.
        size: (height, width) of the image itself.
    """

    pixels: Tensor
    size: tuple[int, int]

    @classmethod
    def resized(cls, pixels: np.ndarray, min_size: int, max_size: int) -> "PreparedImage":
        """Of (height, width, 3) uint8, resized as Detectron2's ``ResizeShortestEdge`` does.

        Its own transform draws a random number for the size.
        """
        height, width = pixels.shape[:2]
        wanted = T.ResizeShortestEdge.get_output_shape(height, width, min_size, max_size)
        # Of a very thin image nothing would be left.
        new_height, new_width = (max(1, side) for side in wanted)
        resized = T.ResizeTransform(height, width, new_height, new_width).apply_image(pixels)
        tensor = torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1)))
        return cls(tensor, (height, width))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.pixels.shape)

    def as_input(self) -> dict:
        """An entry of Detectron2's ``batched_inputs``."""
        return {"image": self.pixels, "height": self.size[0], "width": self.size[1]}


def pixels_of(image: ImageLike, name: str, *, max_pixels: int) -> np.ndarray:
    """(height, width, 3) BGR uint8.

    Args:
        image: see there.
        name: of what is no file, for messages.
        max_pixels: a file that claims more is refused.

    Raises:
        InputError: if it cannot be read or is of another form.
    """
    if isinstance(image, str | os.PathLike):
        image = read_image(image, max_pixels=max_pixels)
    elif isinstance(image, Image.Image):
        try:
            image = image_to_bgr(image)
        except (InputError, OSError) as error:
            raise InputError(f"{name}: {error}") from error
    elif not isinstance(image, np.ndarray):
        raise InputError(
            f"{name} is a {type(image).__name__}; it must be a numpy array, a PIL image or a path"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"{name} is an array of {image.dtype} {image.shape}; it must be uint8 (height, width, 3), BGR"
        )
    return image
