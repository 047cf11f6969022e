"""Letters of any script on pictures, with made fonts: nothing here depends on which are installed."""

import logging

import numpy as np
import pytest
from PIL import Image, ImageFont, features

from helpers.made_font import make_font
from smca.visualization import fonts
from smca.visualization.boxes import caption_bar, paint_boxes
from smca.visualization.fonts import (
    chart_families,
    chart_text,
    class_label,
    draw_text,
    legible,
    runs_of,
    text_size,
)

CACHED = (fonts.legible, fonts.runs_of, fonts._font_file, fonts._face_of, fonts._can_shape)
RAQM = pytest.mark.skipif(not features.check("raqm"), reason="this Pillow has no raqm")


@pytest.fixture
def installed(monkeypatch):
    """Takes the fonts that are to be there beside matplotlib's; at first there are none."""

    def clear():
        fonts._told.clear()
        for function in CACHED:
            getattr(function, "cache_clear", lambda: None)()

    def install(*files):
        monkeypatch.setattr(fonts, "_installed", lambda: list(files))
        clear()

    install()
    yield install
    clear()


def drawn(text, size=20, height=40, width=400) -> np.ndarray:
    """(height, width) bool: where there is ink."""
    canvas = Image.new("RGB", (width, height), "white")
    draw_text(canvas, (5, 5), text, size, "black")
    return np.asarray(canvas).min(axis=2) < 128


def test_the_usual_font_draws_what_it_has(installed):
    for text in ("größe", "κύκλος", "автомобиль", "قطة كبيرة", "חתול", ""):
        assert legible(text) == text
        assert all(run.file is None for run in runs_of(text))


def test_a_name_without_letters_gets_its_number_and_codes(installed):
    names = ["cat", "猫", "बि", "👩", "猫の名前はまだないのだが長い"]
    assert [class_label(k, names) for k in range(4)] == [
        "cat", "class 1 (U+732B)", "class 2 (U+092C U+093F)", "class 3 (:woman:)",
    ]  # fmt: skip
    long = class_label(4, names)
    assert long == "class 4 (U+732B U+306E U+540D ...)"
    assert class_label(9, names) == "9"


def test_what_to_install_is_said_once_for_a_script(installed, caplog):
    for text in ("猫", "犬", "ひ", "한", "बि", "👩", "猫"):
        legible(text)
    said = [record.message for record in caplog.records]
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    assert [text.rpartition(": ")[2] for text in said] == [
        "fonts-noto-cjk).", "fonts-noto-core).", "fonts-noto-color-emoji).",
    ]  # fmt: skip
    assert said[0].startswith(
        "No installed font has the letters of '猫' (chinese, japanese or korean)"
    )


def test_a_font_that_is_installed_draws_its_letters(installed, tmp_path):
    font = make_font(tmp_path / "a.ttf", "猫犬")
    empty_box = drawn("猫")
    installed(font)
    assert class_label(0, ["猫 cat"]) == "猫 cat"
    assert [(run.text, run.file) for run in runs_of("猫 cat")] == [("猫", font), (" cat", None)]
    square = drawn("猫")
    rows, columns = np.nonzero(square)
    # Eight tenths of 20 pixels.
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (16, 16)
    assert square.sum() == 256
    assert (square != empty_box).any()


def test_a_word_has_one_font_where_one_has_it_all(installed, tmp_path):
    """Letters of Indic scripts and of Arabic are joined within a font only."""
    some = make_font(tmp_path / "some.ttf", "猫")
    more = make_font(tmp_path / "more.ttf", "猫犬ab")
    installed(some, more)
    assert runs_of("猫犬") == (fonts.Run("猫犬", more),)
    assert runs_of("猫 a") == (fonts.Run("猫", some), fonts.Run(" a", None))
    assert runs_of("猫ö") == (fonts.Run("猫", some), fonts.Run("ö", None))


def test_runs_stand_side_by_side(installed, tmp_path):
    installed(make_font(tmp_path / "a.ttf", "猫"), make_font(tmp_path / "b.ttf", "犬"))
    columns = np.flatnonzero(drawn("猫犬猫").any(axis=0))
    # Three squares of 16 pixels, 20 apart.
    assert columns.tolist() == [left + k for left in (5, 25, 45) for k in range(16)]
    assert text_size("猫犬猫", 20)[0] == 60


def test_words_from_right_to_left_keep_their_blanks(installed, tmp_path):
    """Each in a font of its own they would stand in the wrong order."""
    font = make_font(tmp_path / "n.ttf", "ߊߋߌ")
    installed(font)
    letters = fonts._letters(fonts._usual())
    word = "ߊߋ" if ord("ߊ") not in letters else "𞤀𞤁"
    if word == "𞤀𞤁":
        installed(make_font(tmp_path / "a.ttf", word))
    (run, rest) = runs_of(f"{word} {word} 0.95")
    assert run.text == f"{word} {word} "
    assert rest.text == "0.95"


@RAQM
def test_hebrew_is_drawn_from_right_to_left(installed, monkeypatch):
    """With raqm, and without it by turning the letters round."""
    with_raqm = drawn("אב")
    monkeypatch.setattr(fonts, "_can_shape", lambda: False)
    installed()
    monkeypatch.setattr(fonts, "_installed", list)
    without = drawn("אב")
    assert with_raqm.any()
    assert (with_raqm != without).sum() < 10
    assert (drawn("בא") != without).sum() > 50


@RAQM
def test_arabic_letters_are_joined(installed, monkeypatch):
    """The letter beh stands alone, or has other forms at the ends and in the middle of a word."""
    joined = drawn("ببب")
    monkeypatch.setattr(fonts, "_can_shape", lambda: False)
    installed()
    assert (joined != drawn("ببب")).sum() > 50


def test_marks_and_joiners_stay_with_their_letter():
    clusters = list(
        fonts.clusters("e\u0301a\U0001f469\u200d\U0001f467b\u2764\ufe0f\U0001f44d\U0001f3fd")
    )
    assert clusters == [
        "e\u0301", "a", "\U0001f469\u200d\U0001f467", "b", "\u2764\ufe0f", "\U0001f44d\U0001f3fd",
    ]  # fmt: skip


@pytest.fixture
def pictures(installed, tmp_path, monkeypatch):
    """A font of one size, as those of coloured emojis are."""
    font = make_font(tmp_path / "pictures.ttf", "👩")
    real = ImageFont.truetype

    def truetype(file, size, **options):
        if file == font and size != 109:
            raise OSError("invalid pixel size")
        return real(file, size, **options)

    monkeypatch.setattr(ImageFont, "truetype", truetype)
    installed(font)
    return font


def test_a_font_of_one_size_is_made_smaller(pictures):
    assert class_label(0, ["👩"]) == "👩"
    rows, columns = np.nonzero(drawn("👩"))
    assert abs(np.ptp(rows) + 1 - 16) <= 1
    assert abs(np.ptp(columns) + 1 - 16) <= 1
    assert abs(text_size("👩", 20)[0] - 20) <= 1


def test_charts_do_without_pictures_and_with_further_fonts(pictures, installed, tmp_path):
    assert chart_text("👩 x") == ":woman: x"
    font = make_font(tmp_path / "b.ttf", "猫", family="Made Sans")
    installed(pictures, font)
    assert chart_text("猫") == "猫"
    assert chart_families(["猫", "cat", "👩"]) == ["DejaVu Sans", "Made Sans"]


def test_boxes_and_captions_are_legible(installed, caplog):
    """What is drawn is never an empty box."""
    image, red = np.zeros((200, 300, 3), np.uint8), [(255, 0, 0)]
    shown = paint_boxes(image, [[20, 60, 200, 160]], ["猫 0.95"], red)
    same = paint_boxes(image, [[20, 60, 200, 160]], ["U+732B 0.95"], red)
    np.testing.assert_array_equal(shown, same)
    np.testing.assert_array_equal(caption_bar("猫", 200), caption_bar("U+732B", 200))


def test_fonts_that_cannot_be_read(installed, tmp_path):
    broken = tmp_path / "x.ttf"
    broken.write_bytes(b"no font")
    assert fonts._letters(broken) == frozenset()
    installed(broken)
    assert legible("猫") == "U+732B"


def test_without_matplotlibs_font_ascii_is_left(installed, monkeypatch):
    monkeypatch.setattr(fonts, "_usual", lambda: None)
    installed()
    assert legible("cat é") == "cat U+00E9"
    assert drawn("cat").any()
