"""The command, from image files or a data set to the page, the pictures and the json."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from helpers.checkpoints import tiny_checkpoint
from helpers.custom_data import write_data_set
from smca.attention_view.command import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attention")
    json_file, images = write_data_set(folder)
    return {
        "smca": str(tiny_checkpoint(folder / "smca.pth", "smca")),
        "detr": str(tiny_checkpoint(folder / "detr.pth", "detr")),
        "json": str(json_file),
        "images": str(images),
        "image": str(images / "a.png"),
    }


@pytest.fixture(autouse=True)
def _catalogs_as_before():
    known = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - known:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def run(*arguments):
    return main([*arguments, "--device", "cpu"])


def test_a_data_set_and_two_models(files, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--dataset", files["json"], "--images", files["images"], "--threshold", "0"]
    models = ["--weights", files["smca"], files["detr"], "--objects", "1"]
    assert run(*models, *arguments, "--output", str(out)) == 0
    written = capsys.readouterr().out.splitlines()
    # Two of the three images, an object each: both models, and each one's heads.
    names = ["survey.json", "attention.html"]
    for number in (1, 2):
        names += [f"object_{number}{part}.png" for part in ("", "_model_1", "_model_2")]
    assert written == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    for name in names[2:]:
        with Image.open(out / name) as picture:
            assert min(picture.size) > 200
    figures = json.loads((out / "survey.json").read_text())
    assert figures["images"] == 3
    assert [model["model"] for model in figures["models"]] == ["SMCA, 3 scales", "DETR"]
    page = (out / "attention.html").read_text(encoding="utf-8")
    share = figures["models"][0]["layers"][0]["attention_after"]
    assert f"<td>{share:.0%}</td>" in page
    assert "Which scale is selected" in page


def test_images_are_surveyed_as_a_data_set(files, tmp_path):
    arguments = [files["image"], "--survey", "--weights", files["smca"], "--threshold", "0"]
    assert run(*arguments, "--output", str(tmp_path)) == 0
    figures = json.loads((tmp_path / "survey.json").read_text())
    assert figures["images"] == 1
    assert figures["models"][0]["detections"] > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["{image}", "--weights", "missing.pth"], "missing.pth"),
        (["missing.png", "--weights", "{smca}"], "missing.png"),
        (["{image}", "--weights", "{smca}", "--objects", "0"], "--objects is 0"),
        (["{image}", "--weights", "{smca}", "--layer", "0"], "--layer is 0"),
        (["{image}", "--weights", "{smca}", "--layer", "9"], "--layer is 9, but"),
        (["{image}", "--weights", "{smca}", "--threshold", "2"], "--threshold is 2"),
        (["{image}", "--weights", "{smca}", "{detr}", "--names", "one"], "--names names 1"),
        (
            ["{image}", "--weights", "{smca}", "--images", "."],
            "--images goes with --dataset",
        ),
        (["{image}", "--weights", "{smca}", "--output", "{json}"], "is a file"),
        (["--weights", "{smca}", "--dataset", "nowhere"], "nowhere"),
        (["--weights", "{smca}", "--dataset", "{json}", "--images", "nowhere"], "nowhere"),
        (
            ["{image}", "--survey", "--weights", "{smca}", "--dataset", "x"],
            "--survey is for IMAGEs",
        ),
    ],
)
def test_bad_input_is_told_in_one_sentence(files, tmp_path, capsys, arguments, told):
    out = [] if "--output" in arguments else ["--output", str(tmp_path / "out")]
    assert run(*[part.format(**files) for part in arguments], *out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("smca-attention: ")
    assert told in line
    assert not (tmp_path / "out").exists()


def test_no_image_is_told_with_the_usage(files, capsys):
    with pytest.raises(SystemExit):
        run("--weights", files["smca"])
    assert "name an image" in capsys.readouterr().err
