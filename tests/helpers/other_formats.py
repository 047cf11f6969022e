"""A COCO json's data set written in the formats of YOLO and Pascal VOC."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from xml.sax.saxutils import escape


def write_yolo(folder: Path, splits: dict[str, tuple[Path, Path]], *, decimals: int = 6) -> Path:
    """The ``data.yaml`` of a copy; of each split the json and the folder of its images are given."""
    names: list[str] = []
    for split, (json_file, images) in splits.items():
        content = json.loads(Path(json_file).read_text())
        categories = sorted(content["categories"], key=lambda c: c["id"])
        names = [c["name"] for c in categories]
        number = {c["id"]: index for index, c in enumerate(categories)}
        places = [folder / kind / split for kind in ("images", "labels")]
        for place in places:
            place.mkdir(parents=True)
        for image in content["images"]:
            shutil.copy(images / image["file_name"], places[0])
            lines = []
            for a in content["annotations"]:
                if a["image_id"] == image["id"] and not a["iscrowd"]:
                    x, y, w, h = a["bbox"]
                    shares = (
                        (x + w / 2) / image["width"], (y + h / 2) / image["height"],
                        w / image["width"], h / image["height"],
                    )  # fmt: skip
                    numbers = " ".join(f"{v:.{decimals}f}" for v in shares)
                    lines.append(f"{number[a['category_id']]} {numbers}\n")
            if lines:
                label = Path(image["file_name"]).with_suffix(".txt").name
                (places[1] / label).write_text("".join(lines))
    yaml = folder / "data.yaml"
    listed = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
    paths = "".join(f"{split}: images/{split}\n" for split in splits)
    yaml.write_text(f"path: .\n{paths}names:\n{listed}")
    return yaml


def write_voc(folder: Path, splits: dict[str, tuple[Path, Path]], *, prefix: bool = False) -> Path:
    """The folder of a copy; crowds are ``difficult``. With a prefix, files are named after their split, too."""
    for name in ("Annotations", "JPEGImages", os.path.join("ImageSets", "Main")):
        (folder / name).mkdir(parents=True)
    for split, (json_file, images) in splits.items():
        content = json.loads(Path(json_file).read_text())
        names = {c["id"]: c["name"] for c in content["categories"]}
        stems = []
        for image in content["images"]:
            path = images / image["file_name"]
            stem = f"{split}_{path.stem}" if prefix else path.stem
            stems.append(stem)
            shutil.copy(path, folder / "JPEGImages" / f"{stem}{path.suffix}")
            objects = []
            for a in content["annotations"]:
                if a["image_id"] == image["id"]:
                    x, y, w, h = a["bbox"]
                    objects.append(
                        f"  <object>\n    <name>{escape(names[a['category_id']])}</name>\n"
                        f"    <difficult>{a['iscrowd']}</difficult>\n"
                        f"    <bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
                        f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox>\n  </object>\n"
                    )
            (folder / "Annotations" / f"{stem}.xml").write_text(
                f"<annotation>\n  <filename>{stem}{path.suffix}</filename>\n"
                f"  <size><width>{image['width']}</width><height>{image['height']}</height></size>\n"
                f"{''.join(objects)}</annotation>\n"
            )
        lines = "".join(f"{stem}\n" for stem in stems)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(lines)
    return folder
