"""The reader of image files, which training and prediction share, under the name that prediction has for it."""

from smca.data.image_file import MAX_PIXELS, image_to_bgr, read_image

__all__ = ["MAX_PIXELS", "image_to_bgr", "read_image"]
