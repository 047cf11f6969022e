import os
import shutil
import tempfile
from pathlib import Path

import pytest

from smca.data.image_file import read_image
from smca.inference.command.output_names import OutputNames
from smca.inference.command.sources import find_sources
from smca.inference.command.video import VideoReader


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "clip.mp4", "[1].jpg",
        "sub/c.jpg", "sub/deep/d.webp", "sub/.cache/e.jpg", "out/a.png", "folder.jpg/f.jpg",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def found(*names, **options):
    return [str(path) for path in find_sources(names, **options).files]


def test_folders():
    assert found(".") == ["[1].jpg", "a.PNG", "b.jpg", "clip.mp4"]
    everything = [
        "[1].jpg",
        "a.PNG",
        "b.jpg",
        "clip.mp4",
        "folder.jpg/f.jpg",
        "out/a.png",
        "sub/c.jpg",
    ]
    assert found(".", recursive=True) == [*everything, "sub/deep/d.webp"]
    assert found("sub", "b.jpg") == ["sub/c.jpg", "b.jpg"]


def test_the_results_of_an_earlier_run_are_left_out(folder):
    assert "out/a.png" not in found(".", recursive=True, except_below=folder / "out")
    assert found("out", recursive=True, except_below=folder / "out") == ["out/a.png"]


def test_patterns_and_names_that_look_like_one():
    assert found("*.jpg") == ["[1].jpg", "b.jpg"]
    assert found("**/*.webp") == ["sub/deep/d.webp"]
    assert found("[1].jpg") == ["[1].jpg"]
    assert found("notes.txt", "gone.jpg") == ["notes.txt", "gone.jpg"]


def test_nothing_is_found_twice(folder):
    assert found("b.jpg", "./b.jpg", folder / "b.jpg", "sub/../b.jpg", "b.*") == ["b.jpg"]


def test_what_leads_nowhere_is_named():
    sources = find_sources(["*.bmp", "sub/.cache", "b.jpg"])
    assert len(sources.files) == 2
    assert sources.problems == ["*.bmp: no file matches"]


def test_output_names(folder):
    names = OutputNames(folder=folder / "out", inputs=[folder / "out" / "a.png", folder / "b.jpg"])
    taken = [
        names.take(name).name for name in ("b.jpg", "B.jpg", "a.png", "b.jpg", "b_2.jpg", "b.png")
    ]
    assert taken == ["b.jpg", "B_2.jpg", "a_2.png", "b_3.jpg", "b_2_2.jpg", "b.png"]


def test_output_folders_are_those_of_the_inputs(folder):
    sources = find_sources([".", "sub/*/*.webp", "sub/c.jpg"], recursive=True)
    names = OutputNames(folder=folder / "found", inputs=sources.files, below=sources.below)
    taken = [names.take(f"{path.stem}.png", path).relative_to(folder) for path in sources.files]
    assert [str(path) for path in taken] == [
        "found/[1].png", "found/a.png", "found/b.png", "found/clip.png", "found/folder.jpg/f.png", "found/out/a.png",
        "found/sub/c.png", "found/sub/deep/d.png",
    ]  # fmt: skip
    of_pattern = find_sources(["sub/*/*.webp"])
    assert of_pattern.below == {Path("sub/deep/d.webp"): Path("deep")}


def test_long_output_names(folder):
    names = OutputNames(folder=folder / "found", inputs=[])
    for name in ("a" * 251 + ".jpg", "a" * 251 + ".jpg", "\u00e4" * 126 + ".png"):
        names.take(name).touch()
    assert len(list((folder / "found").iterdir())) == 3


def test_kinds_that_are_not_read_are_told(folder):
    for name in ("p/1.heic", "p/2.HEIC", "p/3.svg", "p/4.pdf", "p/5.jpg", "p/6.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    sources = find_sources(["p"])
    assert sources.files == [Path("p/5.jpg")]
    assert sources.problems == [
        "p: files of kinds that cannot be read are passed over (2 .heic, 1 .pdf, 1 .svg); convert them to JPEG or PNG"
    ]


def test_links_that_lead_nowhere_are_left_to_be_named(folder):
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dead.jpg").symlink_to("gone.jpg")
    long = "n" * 300 + ".jpg"
    (folder / "round").mkdir()
    (folder / "round" / "loop").symlink_to("loop")
    (folder / "round" / ".loop").symlink_to(".loop")
    (folder / "round" / "dead").symlink_to("gone")
    (folder / "round" / "own").symlink_to(".")
    sources = find_sources(["loop.jpg", "*loop*", "dead.*", long, "", "round"])
    assert list(map(str, sources.files)) == ["loop.jpg", "dead.jpg", long, "round/loop"]
    assert sources.problems == ["the name of an input is empty"]
    assert find_sources(["round"], recursive=True).files == [Path("round/loop")]
    for path in sources.files:
        with pytest.raises(ValueError, match=r"^[^\n]*: (it cannot be read|there is no|it is no)"):
            read_image(path)
        with pytest.raises(ValueError, match=r": (it cannot be read|there is no|it is no)"):
            VideoReader(path)


@pytest.fixture
def closed():
    """A folder with a file and a folder that may not be read, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp())
    (folder / "closed").mkdir()
    (folder / "closed" / "a.jpg").write_text("x")
    for name in ("closed.jpg", "open.jpg"):
        (folder / name).write_text("x")
    (folder / "closed.jpg").chmod(0)
    (folder / "closed").chmod(0)
    folder.chmod(0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)
        yield folder
        os.seteuid(0)
    else:
        yield folder
        (folder / "closed").chmod(0o755)
    shutil.rmtree(folder)


def test_what_may_not_be_read_is_named(closed):
    sources = find_sources([closed], recursive=True)
    sentence = f"{closed / 'closed'}: the folder cannot be read (Permission denied)"
    assert sources.files == [closed / "closed.jpg", closed / "open.jpg"]
    assert sources.problems == [sentence]
    # Closed folders below one that is not asked for are nobody's business.
    assert find_sources([closed]).problems == []
    assert find_sources([closed / "closed"]).problems == [sentence]
    inside = find_sources([closed / "closed" / "a.jpg"])
    for path in (*inside.files, closed / "closed.jpg"):
        for read in (read_image, VideoReader):
            with pytest.raises(ValueError, match=r"it cannot be read \(Permission denied\)"):
                read(path)


def test_names_that_some_systems_take_for_the_same(tmp_path):
    names = OutputNames(folder=tmp_path, inputs=[])
    assert [names.take(name).name for name in ("x.jpg", "X.jpg", "x.JPG")] == [
        "x.jpg", "X_2.jpg", "x_3.JPG",
    ]  # fmt: skip
