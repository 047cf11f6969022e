import functools
import itertools
import time

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor
from PIL import Image
from torch import _dynamo as dynamo
from torch import nn
from torch.nn import functional as F

import smca
from helpers.builders import small_model
from helpers.checkpoints import CLASS_NAMES, tiny_checkpoint, zoo_checkpoint
from helpers.odd_images import picture, turned
from smca import model_zoo
from smca.checkpoint.conversion.convert_released import convert_to_released
from smca.compilation import COMPILED_PARTS, compile_parts
from smca.errors import InputError
from smca.inference import Predictor
from smca.inference.prepared_image import PreparedImage
from smca.model_zoo.convert_file import convert_file

SIZES = [(60, 90), (90, 60), (64, 64), (200, 77)]
MODELS = ["smca_single_scale", "smca", "detr", "deformable_detr", "deformable_detr_two_stage"]


DEFORMABLE = ["digits/deformable_detr", "digits/deformable_detr_two_stage"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("weights") / "tiny.pth")


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return Predictor.from_checkpoint(checkpoint, device="cpu")


class Watched(nn.Module):
    """A detector that remembers the shapes of its batches."""

    def __init__(self, model):
        super().__init__()
        self.model, self.shapes = model, []

    def forward(self, batched_inputs):
        self.shapes.append([tuple(item["image"].shape) for item in batched_inputs])
        return self.model(batched_inputs)


def draw(size, seed=0):
    return np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)


def assert_same(a, b, tolerance=1e-4):
    assert a.image_size == b.image_size
    assert torch.equal(a.pred_classes, b.pred_classes)
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=tolerance)
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_32_images_of_mixed_sizes_equal_one_at_a_time(tmp_path, name):
    predictor = Predictor.from_checkpoint(tiny_checkpoint(tmp_path / "a.pth", name), device="cpu")
    sizes = itertools.islice(itertools.cycle(SIZES), 32)
    images = [draw(size, seed) for seed, size in enumerate(sizes)]
    together = predictor(images)
    assert len(together) == 32
    for image, found in zip(images, together, strict=True):
        assert_same(found, predictor(image))
        assert found.image_size == image.shape[:2]
    assert not torch.equal(together[0].scores, together[4].scores)


@pytest.mark.parametrize(
    "name", ["digits/smca_single_scale", "digits/smca", "digits/faster_rcnn", *DEFORMABLE]
)
def test_it_equals_detectron2s_predictor(tmp_path, name):
    path = zoo_checkpoint(tmp_path / "a.pth", name)
    cfg = model_zoo.get_cfg(name, str(path))
    cfg.MODEL.DEVICE = "cpu"
    theirs = DefaultPredictor(cfg)
    ours = Predictor.from_checkpoint(path, device="cpu")
    for size in ((128, 128), (100, 128), (33, 33), (60, 200), (301, 77)):
        image = draw(size)
        found = ours(image)
        assert_same(found, theirs(image)["instances"])
    assert len(found) == 100 or "rcnn" in name


@pytest.mark.parametrize("name", ["smca", "deformable_detr"])
def test_compiled_it_finds_the_same_with_a_graph_for_all_sizes(tmp_path, monkeypatch, name):
    path = tiny_checkpoint(tmp_path / "a.pth", name)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    sizes = {"min_size": 800, "max_size": 1333}
    plain = Predictor.from_checkpoint(path, device="cpu", **sizes)
    images = [draw(size) for size in ((300, 400), (400, 300), (330, 330))]
    expected = [plain(image) for image in images]
    dynamo.reset()
    monkeypatch.setattr(
        "smca.inference.predictor.compile_parts",
        functools.partial(compile_parts, backend=backend, fullgraph=True),
    )
    compiled = Predictor.from_checkpoint(path, device="cpu", compile=True, **sizes)
    graphs.clear()
    try:
        for image, found in zip(images, expected, strict=True):
            assert_same(compiled(image), found)
    finally:
        dynamo.reset()
    assert len(graphs) == len(COMPILED_PARTS)
    operators = {node.target for graph in graphs for node in graph.graph.nodes}
    # Taken apart by inductor it is several times slower than the rows of all corners.
    assert F.grid_sample not in operators


def test_compiling_what_has_no_such_parts_is_refused():
    with pytest.raises(InputError, match="compile is for"):
        Predictor(model=nn.Linear(1, 1), device="cpu", compile=True)


def test_batches_are_of_one_shape_and_bounded():
    watched = Watched(small_model("smca_single_scale"))
    watched.input_format = "RGB"
    predictor = Predictor(model=watched, min_size=64, max_size=96, batch_size=3, device="cpu")
    predictor([draw(size) for size in [SIZES[0], SIZES[2]] * 4])
    assert all(len(set(batch)) == 1 for batch in watched.shapes)
    assert sorted(len(batch) for batch in watched.shapes) == [1, 1, 3, 3]


def test_large_images_come_one_by_one_on_a_cpu():
    watched = Watched(small_model("smca_single_scale"))
    Predictor(model=watched, min_size=512, device="cpu")([draw((64, 64))] * 2)
    assert [len(batch) for batch in watched.shapes] == [1, 1]


def test_a_stream_is_lazy_and_in_order(checkpoint):
    predictor = Predictor.from_checkpoint(checkpoint, batch_size=2, device="cpu")
    predictor.ahead = 1
    taken = []

    def images():
        for number in itertools.count():
            taken.append(number)
            # The height tells which image a result is of, and no two shapes are equal for long.
            yield draw((40 + number, 64))

    stream = predictor.stream(images())
    heights = [next(stream).image_size[0] for _ in range(20)]
    assert heights == list(range(40, 60))
    # And the one that is prepared meanwhile.
    assert len(taken) <= 20 + 8 + 1


@pytest.mark.parametrize("kind", ["array", "PIL"])
def test_the_memory_of_an_image_may_be_used_again(checkpoint, kind, monkeypatch):
    real = PreparedImage.resized

    def later(*args):
        # The next image is asked for by then.
        time.sleep(0.05)
        return real(*args)

    monkeypatch.setattr(PreparedImage, "resized", later)
    predictor = Predictor.from_checkpoint(checkpoint, batch_size=1, device="cpu")
    pictures = [np.roll(draw((40, 64)), 9 * shift, 1) for shift in range(4)]

    def images():
        buffer = np.empty_like(pictures[0])
        for shown in pictures:
            buffer[:] = shown
            image = Image.fromarray(np.ascontiguousarray(buffer[..., ::-1]))
            yield buffer if kind == "array" else image
            buffer[:] = 0
            image.close()

    expected = list(predictor.stream(pictures, ahead=0))
    for ours, theirs in zip(predictor.stream(images(), ahead=1), expected, strict=True):
        assert_same(ours, theirs, 0)


def test_a_stream_of_one_path_is_refused(predictor):
    with pytest.raises(InputError, match="stream takes many images"):
        next(predictor.stream("photo.jpg"))


def test_large_images_are_not_hoarded(checkpoint):
    predictor = Predictor.from_checkpoint(checkpoint, device="cpu")
    predictor.ahead = 1
    taken = []

    def images():
        for number in range(12):
            taken.append(number)
            # 20 million pixels without their memory, and of different shapes.
            yield np.broadcast_to(np.uint8(number), (2000 + 300 * number, 10000, 3))

    next(predictor.stream(images()))
    assert len(taken) <= 3 + 1


def test_arrays_files_and_pil_images_are_one(predictor, tmp_path):
    shown = picture()
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(turned(shown, 6)).save(path, exif=exif)
    expected = predictor(np.ascontiguousarray(shown[..., ::-1]))
    assert len(expected) > 5
    for image in (shown[..., ::-1], path, str(path), Image.open(path), Image.fromarray(shown)):
        assert_same(predictor(image), expected, 0)
    assert_same(*predictor(iter([path, shown[..., ::-1]])))
    assert predictor([]) == []


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(1, 1), (10, 20000), (20000, 10), (1, 5000)])
def test_extreme_shapes(tmp_path, name, size):
    path = tiny_checkpoint(tmp_path / "a.pth", name, min_size_test=800, max_size_test=1333)
    found = Predictor.from_checkpoint(path, device="cpu")(draw(size))
    assert found.image_size == size
    boxes = found.pred_boxes.tensor
    assert torch.isfinite(boxes).all()
    assert (boxes[:, 2] <= size[1]).all()
    assert (boxes[:, 3] <= size[0]).all()


def test_threshold_and_limit(checkpoint, predictor):
    image = draw((60, 90))
    every = predictor(image)
    threshold = every.scores[4].item()
    some = Predictor.from_checkpoint(checkpoint, threshold=threshold, device="cpu")(image)
    assert_same(some, every[:5])
    best = Predictor.from_checkpoint(checkpoint, max_detections=3, device="cpu")(image)
    assert_same(best, every[:3])


def test_it_knows_the_class_names(predictor):
    assert predictor.class_names == list(CLASS_NAMES)
    assert smca.Predictor is Predictor


def test_moving_averages_are_preferred(tmp_path, checkpoint, predictor):
    content = torch.load(checkpoint, weights_only=True)
    averages = {"model": content["model"]}
    worse = {k: torch.zeros_like(v) for k, v in content["model"].items()}
    torch.save({**content, "model": worse, "ema": averages}, tmp_path / "training.pth")
    found = Predictor.from_checkpoint(tmp_path / "training.pth", device="cpu")(draw((60, 90)))
    assert_same(found, predictor(draw((60, 90))))


def test_bfloat16_is_close(checkpoint, predictor):
    image = draw((60, 90))
    exact = predictor(image)
    found = Predictor.from_checkpoint(checkpoint, precision="bfloat16", device="cpu")(image)
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32
    assert not torch.equal(found.scores, exact.scores)
    torch.testing.assert_close(found.scores, exact.scores, rtol=0, atol=0.1)


def test_from_config(tmp_path, checkpoint):
    name = "digits/smca_single_scale"
    path = zoo_checkpoint(tmp_path / "a.pth", name)
    state = {"model": torch.load(path, weights_only=True)["model"]}
    torch.save(state, tmp_path / "bare.pth")
    with pytest.raises(ValueError, match=r"bare.pth does not say which model .*--config-file"):
        Predictor.from_checkpoint(tmp_path / "bare.pth")
    predictor = Predictor.from_config(name, tmp_path / "bare.pth", device="cpu")
    assert predictor.class_names == [str(digit) for digit in range(10)]
    assert predictor.max_size == 128
    expected = Predictor.from_checkpoint(path, device="cpu")(draw((60, 90)))
    assert_same(predictor(draw((60, 90))), expected)
    by_file = Predictor.from_config(model_zoo.get_config_file(name), path, device="cpu")
    assert_same(by_file(draw((60, 90))), expected)
    with pytest.raises(
        ValueError, match=r"a.pth: its tensors are not those .* that the model does not have"
    ):
        Predictor.from_config("digits/detr", path)


RELEASES = [
    "digits/smca_single_scale",
    "digits/deformable_detr",
    "digits/deformable_detr_refine",
    "digits/deformable_detr_two_stage",
]


def test_a_converted_release_in_detectron2s_predictor(tmp_path):
    name = "digits/deformable_detr_refine"
    path = zoo_checkpoint(tmp_path / "a.pth", name)
    state = torch.load(path, weights_only=True)["model"]
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save({"model": convert_to_released(kept)}, tmp_path / "released.pth")
    convert_file(tmp_path / "released.pth", tmp_path / "b.pth", num_classes=10)
    cfg = model_zoo.get_cfg(name, str(tmp_path / "b.pth"))
    cfg.MODEL.DEVICE = "cpu"

    found = DefaultPredictor(cfg)(draw((60, 90)))["instances"]

    assert_same(found, Predictor.from_checkpoint(path, device="cpu")(draw((60, 90))))


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_of_others(tmp_path, name):
    path = zoo_checkpoint(tmp_path / "a.pth", name)
    state = torch.load(path, weights_only=True)["model"]
    kept = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save({"model": convert_to_released(kept)}, tmp_path / "released.pth")
    found = Predictor.from_config(name, tmp_path / "released.pth", device="cpu")(draw((60, 90)))
    assert_same(found, Predictor.from_checkpoint(path, device="cpu")(draw((60, 90))))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"threshold": float("nan")}, "threshold is nan"),
        ({"precision": "int8"}, "precision 'int8' must be one of float32"),
        ({"precision": "float16", "device": "cpu"}, "float16 needs a GPU"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"device": "cuda:99"}, "device=cuda:99, but PyTorch sees"),
        ({"input_format": "HSV"}, "input_format is 'HSV'"),
        ({"max_detections": 0}, "max_detections is 0"),
        ({"max_detections": "a"}, "max_detections is 'a', it must be a whole number, at least 1"),
        ({"threshold": "a"}, "threshold is 'a', it must be a number between 0 and 1"),
        ({"threshold": None}, "threshold is None, it must be a number between 0 and 1"),
        ({"batch_size": "a"}, "batch_size is 'a', it must be a whole number, at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5, it must be a whole number"),
        ({"batch_size": True}, "batch_size is True, it must be a whole number"),
        ({"min_size": "a"}, "min_size is 'a', it must be a whole number, at least 1"),
        ({"min_size": 0}, "min_size is 0, it must be a whole number, at least 1"),
        ({"max_size": [9]}, r"max_size is \[9\], it must be a whole number"),
        ({"max_pixels": None}, "max_pixels is None, it must be a whole number"),
    ],
)
def test_bad_options(checkpoint, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Predictor.from_checkpoint(checkpoint, **options)


def test_options_may_be_numpys(checkpoint):
    options = {"threshold": np.float32(0.5), "batch_size": np.int64(2), "min_size": np.int32(64)}
    assert Predictor.from_checkpoint(checkpoint, **options).batch_size == 2


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), r"image 1 is an array of float32 \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), "image 1 is an array of uint8"),
        (np.zeros((0, 4, 3), np.uint8), "image 1 is an array of uint8"),
        (None, "image 1 is a NoneType"),
        ("nowhere.jpg", "nowhere.jpg: there is no such file"),
        (Image.fromarray(np.full((3, 3), 9, np.float32)), "image 1: .*floating-point"),
    ],
)
def test_bad_images(predictor, image, sentence):
    with pytest.raises(ValueError, match=sentence):
        predictor([draw((8, 8)), image])
