"""From a dataset dict to the model's input."""

from __future__ import annotations

import copy
import os

import detectron2.data.transforms as T
import numpy as np
import torch
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import check_image_size
from detectron2.utils.file_io import PathManager

from .image_file import MAX_DATA_SET_PIXELS, read_image


class DetectionMapper(DatasetMapper):
    """Detectron2's mapper, with its arguments and results, but with images as ``smca-predict`` reads them.

    The two readers agree on 8-bit images without transparency, bit for bit. Detectron2's makes 16 bits white and
    floats black, and does not name a file that it cannot read. Semantic segmentation and proposals, which no
    detection transformer takes, are left out.
    """

    def __call__(self, dataset_dict: dict) -> dict:
        """A dataset dict as the model takes it, augmented.

        Args:
            dataset_dict: of one image.

        Returns:
            With "image" (C, H, W) uint8 and, in training, "instances".

        Raises:
            InputError: if the file cannot be read or has another size than stated, naming it.
        """
        # Annotations are changed in place below.
        dataset_dict = copy.deepcopy(dataset_dict)
        # Detectron2's users register handlers of remote paths with the PathManager.
        path = PathManager.get_local_path(os.fspath(dataset_dict["file_name"]))
        image = read_image(path, format=self.image_format, max_pixels=MAX_DATA_SET_PIXELS)
        check_image_size(dataset_dict, image)
        augmented = T.AugInput(image)
        transforms = self.augmentations(augmented)
        image = augmented.image
        dataset_dict["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        for key in ("sem_seg_file_name", "proposal_boxes", "proposal_objectness_logits"):
            dataset_dict.pop(key, None)
        if not self.is_train:
            dataset_dict.pop("annotations", None)
        elif "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, image.shape[:2])
        return dataset_dict
