"""Names what a file is that was given instead of a COCO json, and what to do with it."""

from __future__ import annotations

import re
from typing import Any

_CONVERT = "convert the data set to COCO's format first"
_COMPRESSED = {
    b"\x1f\x8b": "gzip (unpack it with gunzip)",
    b"PK\x03\x04": "zip (unpack it)",
    b"BZh": "bzip2 (unpack it with bunzip2)",
    b"\xfd7zXZ": "xz (unpack it with unxz)",
    b"\x28\xb5\x2f\xfd": "zstd (unpack it with unzstd)",
}
_CHECKPOINT_SUFFIXES = (".pth", ".pt")
_LONGEST_HEADER = 1024
_NUMBER = r"-?\d+(\.\d+)?([eE][+-]?\d+)?"
# A class, then a box or a polygon.
_YOLO_LINE = re.compile(rf"\d+(\s+{_NUMBER}){{4,}}\s*")
_YOLO_CONFIG = re.compile(r"^\s*(names|nc|train|val)\s*:", re.MULTILINE)


def format_of_file(raw: bytes, *, name: str = "") -> str | None:
    """What is no json in UTF-8, such as "compressed with gzip (...)"; None if it is nothing known.

    Args:
        raw: its first bytes.
        name: of the file.
    """
    if name.lower().endswith(_CHECKPOINT_SUFFIXES) or _is_zip_of_weights(raw):
        return "a checkpoint (a model's weights): name the data set's annotations instead"
    for magic, tool in _COMPRESSED.items():
        if raw.startswith(magic):
            return f"compressed with {tool}"
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or _has_zeros_between(raw):
        return "text in UTF-16: save it as UTF-8"
    text = raw.decode("utf-8-sig", errors="replace").strip()
    lines = text.splitlines()
    if text.startswith("<"):
        kind = "an annotation of Pascal VOC" if "<annotation" in text else "XML"
        advice = "name the folder that holds Annotations instead" if "Pascal" in kind else _CONVERT
        return f"{kind}: {advice}"
    if not lines or text[0] in "{[":
        return None
    if all(map(_YOLO_LINE.fullmatch, lines[:5])):
        return "labels of YOLO (class, then a box in shares of the image): name the data.yaml of the data set instead"
    if len(set(_YOLO_CONFIG.findall(text))) >= 2:
        return "the yaml of a YOLO data set: let its name end in .yaml"
    if any(_is_table(lines[:5], separator) for separator in ",;\t"):
        return f"a table (CSV): {_CONVERT}"
    return None


def format_of_json(content: Any) -> str | None:
    """Of a json that may be another tool's; None if it is nothing known."""
    if isinstance(content, list) and content and isinstance(content[0], dict):
        keys = content[0].keys()
        if {"image_id", "category_id"} <= keys:
            return "a list of detections or annotations alone: the file needs 'images' and 'categories', too"
        if {"image", "annotations"} <= keys:
            return f"CreateML's format: {_CONVERT}"
    if isinstance(content, dict) and "images" not in content:
        if "shapes" in content and "imagePath" in content:
            return f"LabelMe's format, one file an image: {_CONVERT}"
        if "_via_img_metadata" in content:
            return f"a project of VGG Image Annotator: {_CONVERT}"
        if content.get("type") == "FeatureCollection":
            return f"GeoJSON: {_CONVERT}"
    return None


def _is_zip_of_weights(raw: bytes) -> bool:
    """As ``torch.save`` writes it, with its pickle in front."""
    return raw.startswith(b"PK\x03\x04") and b"/data.pkl" in raw[:_LONGEST_HEADER]


def _has_zeros_between(raw: bytes) -> bool:
    """As UTF-16 without a byte order mark has them in English text."""
    head = raw[:200]
    return len(head) >= 4 and (not any(head[::2]) or not any(head[1::2])) and any(head)


def _is_table(lines: list[str], separator: str) -> bool:
    counts = {line.count(separator) for line in lines}
    return len(counts) == 1 and counts.pop() >= 2
