"""ONNX files beside the models they are of."""

import json

import numpy as np
import onnx
import pytest
import torch

from smca.errors import InputError
from smca.export import DetectionGraph, comparison, export_model, exporter
from smca.export.comparison import pad
from smca.export.onnx_file import Session
from smca.version import __version__

MODELS = ("smca_single_scale", "detr_published")
"""Sigmoid with a prior, softmax without; ``benchmarks/export_latency.py`` exports the others, which takes longer."""

BATCHES = {
    "alone": [(64, 96)],
    "odd": [(75, 109)],
    "thin": [(21, 150)],
    "large": [(131, 200)],
    "padded": [(90, 61), (40, 101), (77, 77)],
}


def images_of(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(256, (3, *size), generator=generator).float() for size in sizes]


def run(path, images, beyond=(0, 0)):
    batch = pad(images, beyond)
    sizes = np.array([image.shape[1:] for image in images])
    return Session(path, threads=1)(batch.numpy(), sizes)


@pytest.mark.parametrize("sizes", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_outputs_are_those_of_each_image_alone(exported, name, sizes):
    """By ``raw_outputs``, which the comparison at export does not use."""
    images = images_of(sizes)
    outputs = run(exported(name).path, images)
    for index, image in enumerate(images):
        expected = exported(name).model.raw_outputs([{"image": image}])
        for ours, theirs in (("logits", "pred_logits"), ("boxes", "pred_boxes")):
            np.testing.assert_allclose(outputs[ours][index], expected[theirs][-1, 0], atol=1e-4)


def test_what_is_beyond_an_image_has_no_effect(exported):
    (image,) = images_of([(70, 90)])
    path = exported("smca_single_scale").path
    alone = run(path, [image])
    batch = torch.full((1, 3, 130, 111), 255.0)
    batch[0, :, :70, :90] = image
    outputs = Session(path, threads=1)(batch.numpy(), np.array([[70, 90]]))
    for name in ("logits", "boxes", "pixel_boxes"):
        np.testing.assert_allclose(outputs[name], alone[name], atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_detections_are_those_of_the_postprocessor(exported, name):
    model = exported(name).model
    images = images_of(BATCHES["padded"])
    outputs = run(exported(name).path, images)
    # (B, D): the softmax gives a query once, and there are 7.
    assert outputs["scores"].shape == (3, {"detr_published": 7}.get(name, 9))
    raw = {f"pred_{key}": torch.from_numpy(outputs[key]).clone() for key in ("logits", "boxes")}
    model.postprocessor.max_detections = 9
    wanted = model.postprocessor(raw, [tuple(image.shape[1:]) for image in images])
    for index, instances in enumerate(wanted):
        ours = {
            (int(number), round(float(score), 5), *np.round(box, 2))
            for score, number, box in zip(
                *(outputs[key][index] for key in ("scores", "classes", "pixel_boxes")), strict=True
            )
        }
        theirs = {
            (int(number), round(float(score), 5), *np.round(box.numpy(), 2))
            for score, number, box in zip(
                instances.scores,
                instances.pred_classes,
                instances.pred_boxes.tensor,
                strict=True,
            )
        }
        assert ours == theirs


@pytest.mark.parametrize("name", MODELS)
def test_metadata(exported, name):
    description = Session(exported(name).path).description
    assert json.loads(description["class_names"]) == ["cat", "dog", "bird"]
    assert description["channel_order"] == exported(name).model.input_format
    assert (description["min_size"], description["max_size"]) == ("64", "96")
    assert description["classification"] == {"detr_published": "softmax"}.get(name, "sigmoid")
    assert description["max_detections"] == "9"
    assert description["smca_version"] == __version__
    assert description == exported(name).report.description


def test_axes_are_named_and_the_graph_is_small(exported):
    model = onnx.load(exported("smca_single_scale").path)
    axes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert axes[:4] == [
        ["batch", 3, "height", "width"],
        ["batch", 2],
        ["batch", 7, 3],
        ["batch", 7, 4],
    ]
    # Weights, and little beside: no tables of positions, no names of lines of Python.
    parameters = sum(p.numel() for p in exported("smca_single_scale").model.parameters())
    assert model.ByteSize() < 4 * parameters + 400_000
    largest = max(np.prod(tensor.dims) for tensor in model.graph.initializer)
    assert largest == max(p.numel() for p in exported("smca_single_scale").model.parameters())
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_a_file_that_differs_is_refused_and_leaves_the_old_one(exported, tmp_path, monkeypatch):
    """Of the same names and shapes, with one weight changed."""
    part = exported("smca_single_scale")
    proto = onnx.load(part.path)
    wrong = next(t for t in proto.graph.initializer if t.dims == [16, 16])
    values = onnx.numpy_helper.to_array(wrong).copy()
    values[0] += 0.5
    wrong.CopyFrom(onnx.numpy_helper.from_array(values, wrong.name))
    monkeypatch.setattr(exporter, "to_onnx", lambda *_: proto)
    monkeypatch.setattr(exporter, "trace", lambda _: None)
    target = tmp_path / "model.onnx"
    target.write_bytes(b"before")
    with pytest.raises(InputError, match=r"differ from the model's by .* no file was written"):
        export_model(part.model, part.info, target)
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_number_that_is_none_is_refused():
    nan = [comparison.Difference("boxes", float("nan"), float("nan"), "5x5")]
    with pytest.raises(InputError, match="exported boxes differ"):
        comparison.refuse_difference(nan)


def test_of_two_draws_the_one_that_is_a_number_counts():
    nan, found = np.full((2, 2, 1), np.nan), np.full((2, 2, 1), 0.5)
    np.testing.assert_array_equal(comparison._better(nan, found), found)
    np.testing.assert_array_equal(comparison._better(found, nan), found)


@pytest.mark.parametrize("output", ["scores", "classes", "pixel_boxes"])
def test_detections_that_are_not_those_of_the_raw_outputs_are_refused(exported, output):
    part = exported("smca_single_scale")
    session, graph = Session(part.path), DetectionGraph(part.model, detections=9)
    comparison.refuse_other_detections(graph, session)

    def wrong(images, sizes):
        outputs = session(images, sizes)
        return {**outputs, output: outputs[output] + 1}

    with pytest.raises(InputError, match=f"exported {output} are not those"):
        comparison.refuse_other_detections(graph, wrong)


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits(exported, tmp_path, monkeypatch, precision):
    part = exported("smca_single_scale")
    proto = onnx.load(part.path)
    monkeypatch.setattr(exporter, "to_onnx", lambda *_: proto)
    monkeypatch.setattr(exporter, "trace", lambda _: None)
    report = export_model(
        part.model, part.info, tmp_path / "small.onnx", precision=precision, detections=9
    )
    assert Session(report.path).description == {
        **part.report.description,
        "precision": precision,
    }
    assert 0 < report.differences[1].mean < 0.02
    types = {tensor.data_type for tensor in onnx.load(report.path).graph.initializer}
    wanted = {"float16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}
    assert wanted[precision] in types
    if precision == "float16":
        assert report.size < 0.7 * part.report.size
