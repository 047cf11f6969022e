"""Which image of an annotation file a path is."""

from pathlib import Path

import pytest

from smca.inference.command.coco_ids import CocoIds

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
