import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from smca.data import CLASSES, DigitsError, DigitsSpec, load_sources, make_digits
from smca.data.digits import store
from smca.errors import InputError

TINY = DigitsSpec(train_images=6, val_images=40, empty_fraction=0.2)
fork = multiprocessing.get_context("fork")  # children start at once, with the tests' patches


@pytest.fixture(scope="module", autouse=True)
def cached_sources():
    sources = load_sources(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "load_sources", lambda spec: sources)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("datasets"), TINY, progress=False)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_same_spec_gives_the_same_bytes(made, tmp_path):
    again = make_digits(tmp_path / "new" / "root", TINY, progress=False)
    assert again == tmp_path / "new" / "root" / "digits"
    assert contents(again) == contents(made)


def test_first_images_do_not_depend_on_the_count(made, tmp_path):
    fewer = make_digits(
        tmp_path, dataclasses.replace(TINY, train_images=3, val_images=2), progress=False
    )
    files, all_files = contents(fewer), contents(made)
    images = [name for name in files if name.endswith(".jpg")]
    assert len(images) == 5
    assert all(files[name] == all_files[name] for name in images)


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("val", 40)])
def test_annotations_are_coco_and_agree_with_the_images(made, split, count):
    coco = COCO(made / "annotations" / f"digits_{split}.json")
    assert [c["name"] for c in coco.loadCats(sorted(coco.getCatIds()))] == list(CLASSES)
    assert sorted(coco.getCatIds()) == list(range(1, 11))
    assert len(coco.imgs) == count == len(list((made / split).iterdir()))
    for image in coco.imgs.values():
        with Image.open(made / split / image["file_name"]) as file:
            assert file.format == "JPEG"
            assert file.mode == "RGB"
            assert file.size == (image["width"], image["height"])
    for annotation in coco.anns.values():
        x, y, w, h = annotation["bbox"]
        image = coco.imgs[annotation["image_id"]]
        assert x >= 0
        assert y >= 0
        assert w > 0
        assert h > 0
        assert x + w <= image["width"]
        assert y + h <= image["height"]
        assert annotation["area"] == w * h
        assert annotation["iscrowd"] == 0
    assert len(coco.anns) == len(coco.dataset["annotations"])  # ids are unique
    assert coco.dataset["info"]["smca_digits"]["seed"] == TINY.seed


def test_val_has_every_class_and_empty_images(made):
    coco = COCO(made / "annotations" / "digits_val.json")
    assert {annotation["category_id"] for annotation in coco.anns.values()} == set(range(1, 11))
    empty = [image for image in coco.imgs if not coco.getAnnIds(imgIds=[image])]
    assert 2 <= len(empty) <= 16


def test_made_data_set_is_not_touched_and_needs_no_sources(made, monkeypatch):
    monkeypatch.setattr(store, "load_sources", lambda spec: pytest.fail("made again"))
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert make_digits(made.parent, TINY) == made
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_other_settings_are_an_error_that_names_them_and_keeps_the_files(tmp_path):
    spec = dataclasses.replace(TINY, train_images=2, val_images=2)
    folder = make_digits(tmp_path, spec, progress=False)
    before = contents(folder)
    other = dataclasses.replace(spec, seed=5, train_images=3)
    with pytest.raises(DigitsError) as error:
        make_digits(tmp_path, other)
    for part in (str(folder), "train_images 2 instead of 3", "seed 0 instead of 5", "delete"):
        assert part in str(error.value)
    assert contents(folder) == before


@pytest.mark.parametrize("damage", ["foreign", "no train json", "broken json", "other json"])
def test_directory_that_is_no_digits_data_set_is_left_alone(tmp_path, damage):
    folder = tmp_path / "digits"
    (folder / "annotations").mkdir(parents=True)
    texts = {"broken json": "{", "other json": json.dumps({"info": {}})}
    if damage == "foreign":
        (folder / "mine.txt").write_text("mine")
    else:
        (folder / "annotations" / "digits_val.json").write_text(texts.get(damage, "{}"))
    if damage in texts:
        (folder / "annotations" / "digits_train.json").write_text("{}")
    before = contents(folder)
    with pytest.raises(DigitsError, match=r"delete .*digits, or use another root"):
        make_digits(tmp_path, TINY)
    assert contents(folder) == before


def test_empty_directory_is_filled(made, tmp_path):
    (tmp_path / "digits").mkdir()
    assert contents(make_digits(tmp_path, TINY, progress=False)) == contents(made)


def slow_compose(log: Path, seconds: float):
    real = store.compose_image

    def compose(*args):
        (log / str(os.getpid())).touch()
        time.sleep(seconds)
        return real(*args)

    return compose


def start(root: Path, spec: DigitsSpec):
    process = fork.Process(target=make_digits, args=(root, spec), kwargs={"progress": False})
    process.start()
    return process


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_that_start_together_make_it_once(made, tmp_path, monkeypatch):
    log, root = tmp_path / "log", tmp_path / "root"
    log.mkdir()
    monkeypatch.setattr(store, "compose_image", slow_compose(log, 0.01))
    processes = [start(root, TINY) for _ in range(3)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(log.iterdir())) == 1
    assert contents(root / "digits") == contents(made)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_half_way_is_made_anew(made, tmp_path, monkeypatch):
    log, root = tmp_path / "log", tmp_path / "root"
    log.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(store, "compose_image", slow_compose(log, 0.2))
        process = start(root, TINY)
    deadline = time.monotonic() + 30
    while not list(root.glob(".digits.partial/train/*.jpg")):
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert not (root / "digits").exists()
    (root / ".digits.partial" / "train" / "left_over.jpg").touch()

    assert contents(make_digits(root, TINY, progress=False)) == contents(made)
    assert not (root / ".digits.partial").exists()


def test_full_disk_is_one_sentence_and_leaves_nothing(made, tmp_path, monkeypatch):
    saves = []

    def save(self, path, **kwargs):
        saves.append(path)
        if len(saves) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(self, path, **kwargs)

    real = Image.Image.save
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        with pytest.raises(DigitsError, match=r"Cannot make .*digits: .*No space left.*root"):
            make_digits(tmp_path, TINY, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.lock"]
    assert contents(make_digits(tmp_path, TINY, progress=False)) == contents(made)


def test_root_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DigitsError, match=r"Cannot make the digits data set .*another root"):
        make_digits(tmp_path / "file" / "root", TINY)


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "load_sources", load_sources)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"pip install 'smca\[demo\]'"):
        make_digits(tmp_path, TINY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../digits", "a/b", ".hidden"])
def test_name_must_be_plain(tmp_path, name):
    with pytest.raises(ValueError, match="data set name"):
        make_digits(tmp_path, TINY, name)
