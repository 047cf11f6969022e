import pytest

from smca.inference.output_names import OutputNames
from smca.inference.sources import find_sources


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
