"""Fonts of a few letters, each of them a filled square, so that tests do not depend on what is installed."""

from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

_UNITS = 1000


def make_font(path: Path, letters: str, *, family: str = "Made") -> Path:
    """A TrueType file that has ``letters`` and the blank."""
    names = {ord(letter): f"u{ord(letter):05X}" for letter in f"{letters} "}
    builder = FontBuilder(_UNITS, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    square = _square()
    glyphs = {name: square for code, name in names.items() if code != 0x20}
    empty = TTGlyphPen(None).glyph()
    builder.setupGlyf({".notdef": empty, names[0x20]: empty, **glyphs})
    widths = dict.fromkeys([".notdef", *names.values()], (_UNITS, 0))
    builder.setupHorizontalMetrics(widths)
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100)
    builder.setupPost()
    builder.save(path)
    return path


def _square():
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 800), (900, 800), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()
