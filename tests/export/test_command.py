"""What smca-export takes, refuses and says."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from smca.errors import InputError
from smca.export import DetectionGraph, export_model, exporter, onnx_file
from smca.export.command import main
from smca.export.exporter import classification_kind
from smca.export.pt2_file import Program
from smca.modeling import FocalClassification


@pytest.fixture
def checkpoint(exported):
    return str(exported("smca_single_scale").checkpoint)


def test_the_command_writes_what_was_asked_for(exported, tmp_path, monkeypatch, capsys):
    """With the number of detections, and says how far the file is from the model."""
    part = exported("smca_single_scale")
    path = tmp_path / "model.onnx"
    asked = []
    monkeypatch.setattr(exporter, "trace", lambda graph: asked.append(graph.detections))
    monkeypatch.setattr(exporter, "to_onnx", lambda *_: onnx.load(part.path))
    # The file that stands in for all has 9.
    checked = []
    monkeypatch.setattr(
        exporter,
        "refuse_other_detections",
        lambda graph, *_, **__: checked.append(graph.detections),
    )
    options = ["--weights", str(part.checkpoint), "--output", str(path)]
    assert main(options) == 0
    assert "logits: largest difference" in capsys.readouterr().out
    assert main([*options, "--detections"]) == main([*options, "--detections", "5"]) == 0
    assert asked == [None, 100, 5]
    assert checked == [100, 5]
    assert path.read_bytes() == part.path.read_bytes()


def test_torch_export(exported, tmp_path, monkeypatch):
    """A .pt2 file has the description in an extra file, and gives what the ONNX file gives."""
    part = exported("smca_single_scale")
    monkeypatch.setattr(exporter, "trace", lambda _: part.program)
    report = export_model(part.model, part.info, tmp_path / "model.pt2", detections=9)
    program = Program(report.path)
    assert program.description["class_names"] == '["cat", "dog", "bird"]'
    images = np.random.default_rng(0).integers(256, size=(1, 3, 71, 93)).astype(np.float32)
    sizes = np.array([[71, 93]])
    wanted = onnx_file.Session(part.path)(images, sizes)
    outputs = program(images, sizes)
    assert list(outputs) == list(wanted)
    for name, values in outputs.items():
        np.testing.assert_allclose(values, wanted[name], atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--output", "model.bin"], "ends neither in .onnx nor in .pt2"),
        (["--output", "m.pt2", "--precision", "int8"], "precision int8 is for ONNX files"),
        (["--output", "m.onnx", "--detections", "0"], "detections is 0, it must be at least 1"),
        (["--output", "no/folder/m.onnx"], "no/folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    checkpoint, options, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporter, "trace", lambda _: None)
    assert main(["--weights", checkpoint, *options]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_not_there(tmp_path, capsys):
    assert main(["--weights", str(tmp_path / "no.pth"), "--output", "m.onnx"]) == 2
    assert "no.pth" in capsys.readouterr().err


def test_without_onnxscript(exported, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    part = exported("smca_single_scale")
    with pytest.raises(InputError, match=r"needs onnxscript.*pip install 'smca\[export\]'"):
        export_model(part.model, part.info, tmp_path / "m.onnx")


def test_other_models_are_refused():
    with pytest.raises(InputError, match="a Linear cannot be exported"):
        DetectionGraph(nn.Linear(2, 2))


def test_a_classification_of_ones_own_is_not_taken_for_a_known_one():
    class Sharper(FocalClassification):
        def scores(self, logits):
            return (2 * logits).sigmoid()

    assert classification_kind(FocalClassification()) == "sigmoid"
    assert classification_kind(Sharper()) == "other"


def test_the_model_stays_as_it_is(exported):
    """The graph folds the norms of a copy."""
    model = exported("smca_single_scale").model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    DetectionGraph(model)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
