"""One reader of images: what is trained and evaluated on is what is checked and predicted on."""

import hashlib

import detectron2.data.transforms as T
import numpy as np
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from omegaconf import OmegaConf
from PIL import Image

from helpers.builders import ROOT
from helpers.odd_images import picture, write_odd_images
from smca.data import DetectionMapper, TrainLoader, build_test_loader
from smca.data.image_file import has_8_bits_in_more, read_image, read_image_size
from smca.data_check.image_check import read_image_state
from smca.inference import prepared_image

OPTIONS = {
    "augmentations": [T.RandomFlip(), T.ResizeShortestEdge([40, 50, 60], sample_style="choice")],
    "image_format": "RGB",
}


@pytest.fixture(scope="module")
def odd_images(tmp_path_factory):
    return write_odd_images(tmp_path_factory.mktemp("odd"), 100)


def record(path, size=(90, 60)):
    annotations = [
        {"bbox": [5, 6, 30, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, "iscrowd": crowd}
        for crowd in (0, 1)
    ]
    width, height = size
    return {
        "file_name": str(path),
        "width": width,
        "height": height,
        "image_id": 3,
        "annotations": annotations,
    }


def same_inputs(found, expected):
    assert found.keys() == expected.keys()
    assert torch.equal(found["image"], expected["image"])
    assert found["image"].dtype == expected["image"].dtype
    if "instances" in expected:
        boxes = (found["instances"].gt_boxes.tensor, expected["instances"].gt_boxes.tensor)
        assert len(boxes[0]) == 1
        assert torch.equal(*boxes)
        assert torch.equal(found["instances"].gt_classes, expected["instances"].gt_classes)
    return True


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("image_format", ["RGB", "BGR", "L"])
def test_ordinary_files_give_what_detectron2_gives(tmp_path, is_train, image_format):
    image = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = 3
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.jpg", quality=80)
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.convert("L").save(tmp_path / "gray.png")
    image.quantize(64).save(tmp_path / "palette.png")
    image.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.merge("RGBA", [*image.split(), Image.new("L", image.size, 255)]).save(tmp_path / "o.png")
    options = {**OPTIONS, "image_format": image_format}
    if image_format == "L":
        options["augmentations"] = []
    compared = 0
    for path in sorted(tmp_path.iterdir()):
        given, results = record(path), []
        for mapper in (DetectionMapper, DatasetMapper):
            np.random.seed(4)
            results.append(mapper(is_train, **options)(given))
        compared += same_inputs(*results)
        assert given == record(path)
    assert compared == 7


def shipped_mappers():
    """Of training and evaluation, without augmentation."""
    cfg = LazyConfig.load(str(ROOT / "configs" / "custom_coco.py"))
    for split in ("train", "test"):
        mapper = cfg.dataloader[split].mapper
        mapper.augmentations, mapper.image_format = [], "BGR"
        yield instantiate(mapper)


def test_odd_files_are_the_same_in_training_evaluation_checking_and_prediction(odd_images):
    assert prepared_image.read_image is read_image
    mappers = list(shipped_mappers())
    read = set()
    for odd in odd_images:
        if not isinstance(odd.shown, np.ndarray):
            continue
        size = read_image_size(odd.path)
        expected = read_image(odd.path)
        assert expected.shape[:2] == size[::-1], odd.path
        for mapper in mappers:
            image = mapper(record(odd.path, size))["image"].permute(1, 2, 0).numpy()
            assert np.array_equal(image, expected), odd.path
        state = read_image_state(str(odd.path))
        assert (state.size, state.error) == (size, "")
        assert state.digest == hashlib.blake2b(expected, digest_size=8).hexdigest()
        read.add(odd.path.name)
    kinds = {"16_bit.png", "16_bit.tif", "float_0_1.tif", "alpha.png", "palette_transparent.png"}
    assert read >= kinds | {"cmyk.jpg", "palette.png", "6.tif", "gray_alpha.png"}


def test_16_bits_and_floats_are_not_blank(odd_images):
    """Where Detectron2's reader has white and black."""
    names = {"16_bit.png", "16_bit.tif", "int32.tif", "float_0_1.tif"}
    paths = [odd.path for odd in odd_images if odd.path.name in names]
    assert len(paths) == 4
    mapper = next(shipped_mappers())
    for path in paths:
        image = mapper(record(path))["image"]
        assert torch.equal(image[0].int(), torch.as_tensor(picture()[..., 0].astype(np.int32)))


@pytest.fixture
def cut_off(tmp_path):
    path = tmp_path / "cut_off.jpg"
    Image.fromarray(picture(200, 300)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    return record(path, (300, 200))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_is_cut_off_is_named(cut_off, num_workers):
    """In one sentence, also when a loading process found it."""
    options = {"dataset": [cut_off], "num_workers": num_workers}
    train = TrainLoader(mapper=DetectionMapper(True, **OPTIONS), total_batch_size=1, **options)
    test = build_test_loader(mapper=DetectionMapper(False, **OPTIONS), **options)
    for loader in (train, test):
        batches = iter(loader)
        with pytest.raises(ValueError, match=r"cut_off\.jpg") as error:
            next(batches)
        message = str(error.value)
        assert message.startswith(f"{cut_off['file_name']}: it cannot be read as an image (image ")
        assert "\n" not in message
        if num_workers:
            # The error keeps its frames, and they the loading process.
            batches._shutdown_workers()
    train.close()


def test_configs_that_name_detectron2s_mapper_work_as_before(tmp_path):
    """Such as the config.yaml of a run from before."""
    Image.fromarray(picture()).save(tmp_path / "a.png")
    mapper = LazyConfig.load(
        str(ROOT / "configs" / "digits" / "custom_coco.py")
    ).dataloader.test.mapper
    mapper.update(_target_=DatasetMapper, augmentations=[], image_format="RGB")
    LazyConfig.save(OmegaConf.create({"mapper": mapper}), str(tmp_path / "config.yaml"))
    again = LazyConfig.load(str(tmp_path / "config.yaml")).mapper
    assert again._target_ == "detectron2.data.DatasetMapper"
    mapped = instantiate(again)(record(tmp_path / "a.png"))
    assert np.array_equal(mapped["image"].permute(1, 2, 0).numpy(), picture())


def test_another_size_than_stated_is_named(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png, got \(90, 60\), expect \(91, 60\)"):
        DetectionMapper(True, **OPTIONS)(record(tmp_path / "a.png", (91, 60)))


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_8_bits_in_more_are_black_and_known_for_it(tmp_path, kind):
    """The type decides on the scale, not the values: as a viewer shows it."""
    path = tmp_path / "dark.tif"
    for most, expected in ((255, True), (0, False), (257, False)):
        Image.fromarray(np.linspace(0, most, 60).reshape(6, 10).astype(kind)).save(path)
        pixels = read_image(path)
        assert pixels.max() == most // 257
        assert has_8_bits_in_more(path, pixels) == expected
    Image.fromarray(np.zeros((6, 10), np.uint8)).save(path)
    assert not has_8_bits_in_more(path, read_image(path))
