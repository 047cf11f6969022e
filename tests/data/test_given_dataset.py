"""Data sets as commands take them."""

import pytest

from helpers.custom_data import write_data_set
from helpers.other_formats import write_voc, write_yolo
from smca.data import load_detection_dataset
from smca.data.given_dataset import register_given_dataset
from smca.errors import InputError


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Paths of one data set, by format."""
    folder = tmp_path_factory.mktemp("given")
    splits = {
        "train": write_data_set(folder, name="t"),
        "val": write_data_set(folder, name="v"),
    }
    json_file, images = splits["val"]
    yolo = write_yolo(folder / "yolo", splits)
    return {
        "json": json_file,
        "images": images,
        "yolo": yolo,
        "voc": write_voc(folder / "voc", splits),
    }


@pytest.mark.parametrize("kind", ["yolo", "voc", "json"])
def test_all_formats_have_the_same_images(given, kind):
    """Of data with splits those to evaluate on."""
    root = {"image_root": str(given["images"])} if kind == "json" else {}
    name = register_given_dataset(str(given[kind]), **root)
    records = load_detection_dataset(name)
    expected = sorted(path.name for path in given["images"].iterdir())
    assert sorted(record["file_name"].rpartition("/")[2] for record in records) == expected
    if kind == "yolo":
        assert all("/val/" in record["file_name"] for record in records)


def test_a_split_can_be_chosen(given):
    name = register_given_dataset(str(given["yolo"]), split="train")
    assert all("train" in record["file_name"] for record in load_detection_dataset(name))


def test_a_name_stays_as_it_is():
    assert register_given_dataset("coco_2017_val") == "coco_2017_val"


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        ("json", {"split": "val"}, "--split goes with data of YOLO or Pascal VOC"),
        ("json", {"image_root": "nowhere"}, "--images: "),
        ("yolo", {"image_root": "."}, "--images has no use"),
        ("coco_2017_val", {"image_root": "."}, "--images goes with files"),
        ("gone.json", {"image_root": "."}, "--dataset gone.json: there is no such file"),
    ],
)
def test_options_that_do_not_go_with_it(given, dataset, options, words):
    with pytest.raises(InputError, match=words):
        register_given_dataset(str(given.get(dataset, dataset)), **options)
