"""smca-check-dataset from its arguments to its exit status."""

import json

import pytest
from detectron2.config import LazyConfig
from PIL import Image

from helpers.custom_data import pets, write_data_set
from smca import model_zoo
from smca.data_check.command import main


@pytest.fixture
def run(capsys):
    def call(*arguments):
        status = main([str(a) for a in arguments])
        output = capsys.readouterr()
        return status, output.out, output.err

    return call


def faulty():
    content = pets()
    content["annotations"][0]["bbox"] = [1, 1, 5, 0]
    content["annotations"][1]["bbox"] = [-9, 1, 15, 9]
    return content


def test_clean(run, tmp_path):
    json_file, images = write_data_set(tmp_path)
    status, out, err = run(json_file, "--images", images, "--workers", 0)
    assert (status, err) == (0, "")
    assert (
        "3 images (1 without objects), 3 objects of 3 classes, 1 crowds; 3 image files read" in out
    )
    assert out.endswith("No faults found.\n")


def test_faults_picture_report_and_fix(run, tmp_path):
    json_file, images = write_data_set(tmp_path, faulty())
    picture, report, fixed = (tmp_path / name for name in ("p.png", "r.json", "f.json"))
    status, out, _ = run(
        json_file, "--images", images, "--workers", 0,
        "--output", picture, "--json", report, "--fix", fixed,
    )  # fmt: skip
    assert status == 1
    assert "box without area: annotation 0 (id 1) [1, 1, 5, 0] in a.png (40x32)" in out
    assert f"Written to {fixed}, {json_file} is as it was." in out
    with Image.open(picture) as image:
        assert image.size[0] > 1000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 100
    content = json.loads(report.read_text())
    assert {f["kind"]: f["count"] for f in content["faults"]} == {
        "box without area": 1,
        "box partly outside the image": 1,
    }
    assert content["classes"]["emu"] == {"objects": 1, "images": 1}
    assert run(fixed, "--images", images, "--workers", 0)[0] == 0


def test_the_images_are_beside_the_json_unless_told(run, tmp_path):
    json_file, images = write_data_set(tmp_path)
    json_file = json_file.rename(images / "_annotations.coco.json")
    status, out, err = run(json_file, "--workers", 0)
    assert (status, err) == (0, "")
    assert "3 image files read" in out


def test_the_number_of_queries_is_said_and_may_come_from_a_config(run, tmp_path):
    json_file, _ = write_data_set(tmp_path)
    assert "compared with 300 queries" in run(json_file, "--no-images")[1]
    config = tmp_path / "config.yaml"
    cfg = model_zoo.get_config("digits/custom_coco")
    cfg.model.decoder.num_queries = 1
    LazyConfig.save(cfg, str(config))
    status, out, _ = run(json_file, "--no-images", "--config-file", config)
    assert status == 1
    assert "compared with 1 queries" in out
    assert "more objects than queries" in out
    options = ("--no-images", "--config-file", "digits/smca_single_scale")
    assert "compared with 20 queries" in run(json_file, *options)[1]


def test_a_fix_that_would_lose_everything_is_refused(run, tmp_path):
    content = pets()
    for annotation in content["annotations"]:
        annotation["bbox"] = "1 2 3 4"
    json_file, images = write_data_set(tmp_path, content)
    fixed = tmp_path / "fixed.json"
    status, _, err = run(json_file, "--images", images, "--workers", 0, "--fix", fixed)
    assert status == 2
    assert "none of its 4 annotations would be left" in err
    assert len(err.splitlines()) == 1
    assert not fixed.exists()


def test_a_picture_without_images(run, tmp_path):
    json_file, _ = write_data_set(tmp_path, faulty())
    assert run(json_file, "--no-images", "--output", tmp_path / "p.png")[0] == 1
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_registered_name_of_an_imported_module(run, tmp_path, monkeypatch):
    json_file, images = write_data_set(tmp_path)
    (tmp_path / "smca_test_module.py").write_text(
        "from detectron2.data.datasets import register_coco_instances\n"
        f"register_coco_instances('smca_test_imported', {{}}, {str(json_file)!r}, {str(images)!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    status, out, _ = run("smca_test_imported", "--import", "smca_test_module", "--workers", 0)
    assert status == 0
    assert "3 image files read" in out


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        (None, [], "neither a file nor a registered data set"),
        ("{", ["--no-images"], "is no COCO json"),
        ("[]", ["--no-images"], "its top level is no object"),
        ('{"images": [], "categories": []}', ["--no-images"], "its list 'images' is empty"),
        (json.dumps(pets()), [], "where are the images of"),
        (json.dumps(pets()), ["--images", "nowhere"], "--images: there is no folder nowhere"),
        (
            json.dumps(pets()),
            ["--no-images", "--workers", "-1"],
            "--workers must be 0 or more, not -1",
        ),
        (json.dumps(pets()), ["--num-queries", "0"], "--num-queries must be 1 or more, not 0"),
        (json.dumps(pets()), ["--examples", "-1"], "--examples must be 0 or more, not -1"),
        (json.dumps(pets()), ["--output", "."], "--output . is a folder"),
        (json.dumps(pets()), ["--no-images", "--config-file", "no_such_config"], "no_such_config"),
        (json.dumps(pets()), ["--import", "smca_no_such_module"], "No module named"),
        (json.dumps(pets()), ["--no-images", "--output", "p.xyz"], "xyz"),
    ],
)
def test_what_cannot_be_checked_ends_in_one_sentence(
    run, tmp_path, monkeypatch, text, arguments, words
):
    monkeypatch.chdir(tmp_path)
    json_file = tmp_path / "data.json"
    if text is not None:
        json_file.write_text(text)
    status, _, err = run(json_file, *arguments)
    assert status == 2
    assert err.startswith("smca-check-dataset: ")
    assert words in err
    assert len(err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"data.json"}


@pytest.mark.parametrize("option", ["--output", "--json", "--fix"])
def test_a_target_that_cannot_be_written_is_told_before_the_check(run, tmp_path, option):
    json_file, images = write_data_set(tmp_path)
    # Not even root can make a file there.
    status, out, err = run(json_file, "--images", images, option, "/proc/smca/x.png")
    assert (status, out) == (2, "")
    assert err.startswith(f"smca-check-dataset: {option} /proc/smca/x.png cannot be written: ")
    assert len(err.splitlines()) == 1


def test_a_disk_that_is_full_names_the_option(run, tmp_path):
    json_file, _ = write_data_set(tmp_path)
    status, _, err = run(json_file, "--no-images", "--json", "/dev/full")
    assert status == 2
    assert "--json /dev/full cannot be written: No space left on device" in err


def test_a_fix_without_objects_is_refused(run, tmp_path):
    json_file, images = write_data_set(tmp_path, {**pets(), "annotations": []})
    fixed = tmp_path / "fixed.json"
    status, _, err = run(json_file, "--images", images, "--workers", 0, "--fix", fixed)
    assert status == 2
    assert "there is no object to learn from" in err
    assert not fixed.exists()
