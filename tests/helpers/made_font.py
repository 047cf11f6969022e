"""Fonts of a few letters, each of them a filled square, so that tests do not depend on what is installed."""

from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

_UNITS = 1000


def make_font(path: Path, letters: str, *, family: str = "Made", width: int = _UNITS) -> Path:
    """A TrueType file that has ``letters`` and the blank, each ``width`` thousandths of the size wide."""
    names = {ord(letter): f"u{ord(letter):05X}" for letter in f"{letters} "}
    builder = FontBuilder(_UNITS, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    square = _square(width)
    glyphs = {name: square for code, name in names.items() if code != 0x20}
    empty = TTGlyphPen(None).glyph()
    builder.setupGlyf({".notdef": empty, names[0x20]: empty, **glyphs})
    widths = dict.fromkeys([".notdef", *names.values()], (width, 0))
    builder.setupHorizontalMetrics(widths)
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900, sTypoDescender=-100)
    builder.setupPost()
    builder.save(path)
    return path


def _square(width: int):
    left, right = width // 10, width - width // 10
    pen = TTGlyphPen(None)
    pen.moveTo((left, 0))
    for corner in ((left, 800), (right, 800), (right, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()
