"""A file that is given instead of a COCO json is named for what it is."""

import bz2
import gzip
import io
import json
import zipfile

import pytest
import torch

from helpers.custom_data import pets
from smca.data.sources.coco_json import read_coco_json
from smca.data.sources.other_formats import format_of_file

JSON = json.dumps(pets()).encode()
VOC = b"<?xml version='1.0'?>\n<annotation><filename>a.jpg</filename></annotation>"
CSV = b"filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,32,cat,1,2,3,4\n"


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.json", JSON)
    return buffer.getvalue()


def saved_weights() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": {"weight": torch.zeros(1)}}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(JSON), "compressed with gzip (unpack it with gunzip)"),
        (bz2.compress(JSON), "compressed with bzip2"),
        (zipped(), "compressed with zip"),
        (saved_weights(), "a checkpoint (a model's weights)"),
        (JSON.replace(b"emu", b"\xe9mu"), "text in another encoding than UTF-8 (invalid continuation byte): save it"),
        (JSON.decode().encode("utf-16"), "text in UTF-16: save it as UTF-8"),
        (JSON.decode().encode("utf-16-le"), "text in UTF-16: save it as UTF-8"),
        (JSON.decode().encode("utf-16-be"), "text in UTF-16: save it as UTF-8"),
        (b"0 0.5 0.5 0.25 0.125\n11 0.1 0.2 0.05 1e-2\n", "labels of YOLO"),
        (b"3 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n", "labels of YOLO"),
        (b"train: images/train\nval: images/val\nnc: 2\nnames: [a, b]\n", "the yaml of a YOLO data set"),
        (VOC, "an annotation of Pascal VOC: name the folder that holds Annotations"),
        (b"<html></html>", "XML"),
        (CSV, "a table (CSV)"),
        (CSV.replace(b",", b";"), "a table (CSV)"),
        (CSV.replace(b",", b"\t"), "a table (CSV)"),
        (b'[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]', "a list of detections"),
        (b'[{"image": "a.jpg", "annotations": []}]', "CreateML's format"),
        (b'{"shapes": [], "imagePath": "a.jpg"}', "LabelMe's format"),
        (b'{"_via_img_metadata": {}}', "a project of VGG Image Annotator"),
        (b'{"type": "FeatureCollection", "features": []}', "GeoJSON"),
    ],
)  # fmt: skip
def test_each_is_named(tmp_path, content, words):
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.json is no COCO json, but ") as error:
        read_coco_json(path)
    assert f"but {words}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"hello", b"1, 2", b"\x80\x81", b"[1, 2", b"\0\0\0\0", JSON[:300], b"a: b"],
)
def test_no_guess_without_a_sign(content):
    assert format_of_file(content) is None


def test_a_checkpoint_by_its_name(tmp_path):
    path = tmp_path / "model.PTH"
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match="but a checkpoint"):
        read_coco_json(path)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xef\xbb\xbf"])
def test_an_empty_file(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data\.json is no COCO json, for it is empty"):
        read_coco_json(path)
