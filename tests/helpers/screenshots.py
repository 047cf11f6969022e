"""Pages in a real browser, and their pictures beside stored ones."""

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from .made_font import make_font

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
STORED = Path(__file__).parents[1] / "screenshots"
WIDTHS = (1280, 400)

_TOLERANCE = 24
"""Of a pixel beyond what the other picture has within a pixel's distance: edges are smoothed in more than one way."""
_TILE, _MOST = 32, 0.04
"""Side of the squares that pictures are compared in, and the share of a square's pixels that may differ."""

# Text, pictures and buttons look otherwise with other fonts and libraries: text becomes bars of a font that tests make,
# pictures grey areas. Tests of their own look at what is in pictures.
_STYLE = """
@font-face { font-family: Made; src: url(data:font/ttf;base64,%s); }
* { font-family: Made !important; font-weight: 400 !important; font-style: normal !important;
  text-rendering: geometricPrecision !important; }
img { object-position: -9999px 0 !important; background: #999 !important; }
input { appearance: none; width: 1rem; height: 1rem; padding: 0 !important; }
"""


@contextlib.contextmanager
def opened(path: Path, width: int, browser: Any) -> Iterator[Any]:
    """A page in a window, which may ask for nothing and must not fail."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="light")
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert not errors


@contextlib.contextmanager
def started() -> Iterator[Any]:
    """A browser; without one the test is skipped."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no chromium or google-chrome is installed")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--force-color-profile=srgb"]
        )
        yield browser
        browser.close()


def take(page: Any, path: Path) -> Path:
    """The whole page as a PNG, the same on every machine but for the smoothing of edges."""
    letters = "".join(sorted(set(page.content()) - set(" \n")))
    font = make_font(path.with_suffix(".ttf"), letters, width=500).read_bytes()
    page.add_style_tag(content=_STYLE % base64.b64encode(font).decode("ascii"))
    page.evaluate(
        "Promise.all([document.fonts.ready, ...[...document.images].map(it => it.decode())])"
    )
    page.screenshot(path=path, full_page=True, animations="disabled", caret="hide")
    return path


def compare(new: Path, stored: Path, *, write: bool) -> None:
    """Fails where a picture is another one than what is stored, which it becomes with ``write``."""
    picture = Image.open(new).convert("RGB")
    if write:
        # Five bits of a colour say enough, in a third of the bytes.
        picture.point(lambda value: value & 0xF8 | 4).save(stored, optimize=True)
    assert stored.is_file(), f"there is no {stored}; --write-screenshots makes it"
    with Image.open(stored) as opened_picture:
        expected = opened_picture.convert("RGB")
    assert picture.size == expected.size, f"{new} is {picture.size}, {stored} is {expected.size}"
    differs = differing(np.asarray(picture), np.asarray(expected))
    share = worst_share(differs)
    if share > _MOST:
        difference = new.with_suffix(".difference.png")
        shown = np.asarray(expected) // 3 + 170
        shown[differs] = (255, 0, 0)
        Image.fromarray(shown.astype(np.uint8)).save(difference)
        pytest.fail(
            f"{new} is not {stored}: of {_TILE} x {_TILE} pixels {share:.0%} differ, red in {difference}. If it is "
            "meant to be so, pytest --write-screenshots stores the new one"
        )


def differing(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(h, w) True where a pixel of either picture (h, w, 3) is beyond what the other one has around it."""
    found = np.zeros(one.shape[:2], bool)
    if np.abs(one.astype(int) - other).max() <= _TOLERANCE:
        return found
    for a, b in ((one, other), (other, one)):
        size = (3, 3, 1)
        low = minimum_filter(b, size).astype(int) - _TOLERANCE
        high = maximum_filter(b, size).astype(int) + _TOLERANCE
        found |= ((a < low) | (a > high)).any(-1)
    return found


def worst_share(differs: np.ndarray) -> float:
    """How much of the square differs that differs most."""
    rows, columns = (-(-side // _TILE) for side in differs.shape)
    whole = np.zeros((rows * _TILE, columns * _TILE))
    whole[: differs.shape[0], : differs.shape[1]] = differs
    return float(whole.reshape(rows, _TILE, columns, _TILE).mean((1, 3)).max())
