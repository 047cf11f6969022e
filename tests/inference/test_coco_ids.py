"""Which image of an annotation file a path is."""

import json
from pathlib import Path

import pytest

from smca.inference.command.coco_ids import CocoIds
from smca.text import printable

IMAGE = {"id": 1, "file_name": "x.jpg", "width": 8, "height": 8}
NAMES = ["x.jpg", "a/x.jpg", "b/a/x.jpg", "a\\y.jpg", "c/z.jpg"]


@pytest.fixture(params=[NAMES, NAMES[::-1]], ids=["shortest first", "longest first"])
def ids(request):
    images = {name: NAMES.index(name) for name in request.param}
    return CocoIds(images=images, category_ids=[1], source="truth.json")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/x.jpg", "x.jpg"),
        ("/data/a/x.jpg", "a/x.jpg"),
        ("/data/b/a/x.jpg", "b/a/x.jpg"),
        ("/data/c/a/x.jpg", "a/x.jpg"),
        ("/data/ba/x.jpg", "x.jpg"),
        ("/data/a/y.jpg", "a\\y.jpg"),
    ],
)
def test_the_longest_name_that_fits(ids, path, name):
    assert ids.image_id(Path(path)) == NAMES.index(name)


@pytest.mark.parametrize("path", ["/data/z.jpg", "/data/other.jpg", "/data/xx.jpg"])
def test_no_name_fits(ids, path):
    with pytest.raises(ValueError, match=r"truth\.json has no image of that name"):
        ids.image_id(Path(path))


def test_names_with_hidden_characters_are_those_of_the_model_that_learned_them(tmp_path):
    categories = [{"id": 4, "name": "cat\u200b"}, {"id": 9, "name": "dog\t"}]
    (tmp_path / "truth.json").write_text(
        json.dumps({"images": [IMAGE], "annotations": [], "categories": categories})
    )
    described = [printable(category["name"]) for category in categories]
    assert CocoIds.from_file(tmp_path / "truth.json", described).category_ids == [4, 9]
    with pytest.raises(ValueError, match="not the model's 2 classes"):
        CocoIds.from_file(tmp_path / "truth.json", ["cat", "dog"])
