"""A data set with its boxes in each of the usual formats."""

from __future__ import annotations

import numpy as np

from smca.data.checks.box_format import BoxFormat, Layout

from .custom_data import pets

FORMATS = [BoxFormat(layout, share) for layout in Layout for share in (False, True)][1:]


def many_objects():
    """(6, 2) images with (60, 4) boxes of all sizes and places in them."""
    rng = np.random.default_rng(5)
    content = pets()
    content["annotations"] = []
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for number in range(60):
        image_id = (7, 9, 12)[number % 3]
        start, end = np.sort(rng.uniform(0, 1, (2, 2)), axis=0) * sizes[image_id]
        box = [*start.tolist(), *np.maximum(end - start, 0.5).tolist()]
        content["annotations"].append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": (3, 11, 40)[number % 3],
                "bbox": box,
            }
        )
    return content


def written_as(content, box_format):
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        box = {
            Layout.COCO: [x, y, w, h],
            Layout.CORNERS: [x, y, x + w, y + h],
            Layout.CENTRES: [x + w / 2, y + h / 2, w, h],
        }[box_format.layout]
        width, height = sizes[annotation["image_id"]] if box_format.normalised else (1, 1)
        annotation["bbox"] = [box[0] / width, box[1] / height, box[2] / width, box[3] / height]
    return content
