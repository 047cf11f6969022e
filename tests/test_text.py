import pytest

from smca.text import clip, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a cat", "a cat"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\r\nlines\u2028", r"two\r\nlines\u2028"),
        ("\u202etxt.exe", r"\u202etxt.exe"),
        ("\udce9", r"\udce9"),
        # Spaces and joiners that words of many languages need.
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 a\u00a0b \u3000\u732b", None),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text, shown):
    assert printable(text) == (text if shown is None else shown)


def test_what_an_encoding_lacks():
    assert printable("café 猫", "latin1") == r"café \u732b"


def test_a_long_text_is_cut():
    assert clip("x" * 300) == "x" * 300
    assert clip("x" * 301) == "x" * 297 + "..."
