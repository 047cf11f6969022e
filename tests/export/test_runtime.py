"""smca_runtime, beside Detectron2's predictor, and in a process that has no PyTorch."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from detectron2.engine import DefaultPredictor
from PIL import Image

import smca_runtime
from helpers.builders import ROOT
from helpers.odd_images import write_odd_images
from smca import model_zoo
from smca.data.image_file import UnreadableImageError, read_image

SIZES = [(64, 96), (100, 131), (60, 200), (301, 77), (33, 35), (640, 30)]
WITHOUT_TORCH = """
import json, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "detectron2", "smca", "cv2"):
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, sys.argv[1])
import smca_runtime
predictor = smca_runtime.Predictor(sys.argv[2])
found = [predictor(path) for path in sys.argv[3:]]
print(json.dumps([[f.boxes.tolist(), f.scores.tolist(), f.classes.tolist(), f.names] for f in found]))
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Smooth ones, as photos are, of a few sizes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for height, width in SIZES:
        small = Image.fromarray(rng.integers(256, size=(9, 9, 3), dtype=np.uint8))
        paths.append(folder / f"{height}x{width}.jpg")
        small.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def without_metadata(path, target, **changes):
    """A copy of an ONNX file with some of its metadata changed, None for none."""
    model = onnx.load(path)
    for entry in list(model.metadata_props):
        if entry.key in changes:
            model.metadata_props.remove(entry)
            if changes[entry.key] is not None:
                model.metadata_props.add(key=entry.key, value=changes[entry.key])
    onnx.save(model, target)
    return target


def only_raw(path, target):
    model = onnx.load(path)
    del model.graph.output[2:]
    onnx.save(model, target)
    return target


def expected(checkpoint, paths):
    """Of Detectron2's predictor: boxes, scores, classes."""
    cfg = model_zoo.get_cfg("digits/smca_single_scale", str(checkpoint))
    cfg.MODEL.DEVICE = "cpu"
    cfg.TEST.DETECTIONS_PER_IMAGE = 9
    predictor = DefaultPredictor(cfg)
    found = [predictor(read_image(path))["instances"] for path in paths]
    return [(f.pred_boxes.tensor.numpy(), f.scores.numpy(), f.pred_classes.numpy()) for f in found]


def assert_same(found, wanted):
    boxes, scores, classes = wanted
    assert len(found.scores) == len(scores) > 0
    np.testing.assert_array_equal(found.classes, classes)
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    np.testing.assert_allclose(found.boxes, boxes, atol=2e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["smca_single_scale", "detr_published"])
def test_default_predictors_detections(exported, files, tmp_path, name):
    """From raw outputs as from detections, one by one as in a padded batch."""
    path = exported(name).path
    wanted = expected(exported(name).checkpoint, files)
    for file in (path, only_raw(path, tmp_path / "raw.onnx")):
        predictor = smca_runtime.Predictor(file, threads=1)
        assert predictor.class_names == ["cat", "dog", "bird"]
        for found in ([predictor(image) for image in files], predictor.batch(files)):
            for ours, theirs in zip(found, wanted, strict=True):
                assert_same(ours, theirs)
                assert ours.names == [predictor.class_names[i] for i in ours.classes]


def test_without_torch(exported, files):
    path = exported("smca_single_scale").path
    code = [sys.executable, "-c", WITHOUT_TORCH, str(ROOT / "projects" / "SMCA"), str(path)]
    done = subprocess.run([*code, *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predictor = smca_runtime.Predictor(path)
    for (boxes, scores, classes, names), file in zip(json.loads(done.stdout), files, strict=True):
        found = predictor(file)
        np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
        np.testing.assert_allclose(found.scores, scores, atol=1e-5)
        assert (found.classes.tolist(), found.names) == (classes, names)


def test_thresholds_and_limits(exported, files):
    path = exported("smca_single_scale").path
    all_found = smca_runtime.Predictor(path)(files[0])
    limit = float(np.median(all_found.scores))
    some = smca_runtime.Predictor(path, threshold=limit)(files[0])
    assert 0 < len(some) < len(all_found) == 9
    assert min(some.scores) >= limit
    assert len(smca_runtime.Predictor(path, max_detections=2)(files[0])) == 2


def test_forms_of_an_image(exported, files):
    """A path, a PIL image and a BGR array are one image; a batch of none has none."""
    predictor = smca_runtime.Predictor(exported("smca_single_scale").path)
    by_path = predictor(files[1])
    for image in (Image.open(files[1]), read_image(files[1]), str(files[1])):
        np.testing.assert_array_equal(predictor(image).boxes, by_path.boxes)
    rgb = read_image(files[1], format="RGB")
    assert not np.array_equal(predictor(rgb).scores, by_path.scores)
    assert predictor.batch([]) == []


def test_images_are_read_as_the_package_reads_them(tmp_path):
    """Of all kinds: turned, transparent, of 16 bits, damaged."""
    read = 0
    for odd in write_odd_images(tmp_path, 80):
        try:
            wanted = read_image(odd.path)
        except UnreadableImageError:
            continue
        np.testing.assert_array_equal(smca_runtime.as_bgr(odd.path), wanted, err_msg=str(odd.path))
        read += 1
    assert read > 40


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"smca_version": None}, "no file of smca-export, or lost its metadata"),
        ({"classification": "other"}, "export it with --detections"),
    ],
)
def test_files_of_others_are_refused(exported, tmp_path, changes, sentence):
    raw = only_raw(exported("smca_single_scale").path, tmp_path / "raw.onnx")
    changed = without_metadata(raw, tmp_path / "changed.onnx", **changes)
    with pytest.raises(smca_runtime.RuntimeInputError, match=sentence):
        smca_runtime.Predictor(changed)


def test_what_cannot_be_read_is_one_sentence(exported, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    path = exported("smca_single_scale").path
    predictor = smca_runtime.Predictor(path)
    for call in (
        lambda: smca_runtime.Predictor(tmp_path / "no.onnx"),
        lambda: smca_runtime.Predictor(tmp_path / "text.jpg"),
        lambda: predictor(tmp_path / "text.jpg"),
        lambda: predictor(np.zeros((5, 5, 3))),
        lambda: predictor(7),
        lambda: predictor.batch("photo.jpg"),
        lambda: smca_runtime.Predictor(path, threshold=2),
        lambda: smca_runtime.Predictor(path, max_detections=0),
    ):
        with pytest.raises(smca_runtime.RuntimeInputError) as error:
            call()
        assert "\n" not in str(error.value)


def test_as_a_script(exported, files, capsys):
    path = str(exported("smca_single_scale").path)
    assert smca_runtime.main([path, str(files[0]), str(files[1])]) == 0
    assert capsys.readouterr().out.count(" found\n") == 2
    assert smca_runtime.main([path]) == 2
    assert smca_runtime.main([path, "no.jpg"]) == 2
    assert "no.jpg cannot be read" in capsys.readouterr().err
