"""The pages of smca-attention and smca-report as people meet them, in a browser where one is installed.

``pytest tests/visualization/test_pages_in_browser.py --write-screenshots`` stores the pictures anew; look at them.
"""

import numpy as np
import pytest
from PIL import Image

from helpers.drawn_pages import attention_page, report_page
from helpers.screenshots import (
    STORED,
    WIDTHS,
    compare,
    differing,
    opened,
    started,
    take,
    worst_share,
)

PAGES = {"attention": attention_page, "report": report_page}


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    return {name: make(folder) for name, make in PAGES.items()}


@pytest.fixture(params=WIDTHS)
def width(request):
    return request.param


@pytest.mark.parametrize("name", PAGES)
def test_page_looks_as_stored_and_fits_the_window(
    files, browser, width, name, tmp_path, pytestconfig
):
    with opened(files[name], width, browser) as page:
        if name == "attention":
            page.wait_for_selector("canvas")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        new = take(page, tmp_path / f"{name}_{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    compare(new, STORED / new.name, write=pytestconfig.getoption("write_screenshots"))


def test_keyboard_goes_through_the_choices_in_order_and_chooses(files, browser, width):
    with opened(files["attention"], width, browser) as page:
        page.wait_for_selector("canvas")
        reached = []
        for _ in range(4):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.name"))
            assert page.evaluate(OUTLINED), "what has the focus is not outlined"
        assert reached == ["object", "layer", "head", "scale"]
        before = page.locator("#models").screenshot()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("ArrowRight")
        assert "head 1" in page.locator("#state").text_content()
        assert page.locator("#models").screenshot() != before
        for radio in page.get_by_role("radio").all():
            assert radio.evaluate("it => it.labels.length") == 1


def test_keyboard_goes_through_the_report_in_order(files, browser, width):
    with opened(files["report"], width, browser) as page:
        sections = page.locator("nav a").evaluate_all("all => all.map(it => it.hash)")
        expected = page.locator("section[id]").evaluate_all("all => all.map(it => `#${it.id}`)")
        assert sections == expected
        reached = []
        for _ in sections:
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.hash"))
            assert page.evaluate(OUTLINED), "what has the focus is not outlined"
        assert reached == sections
        page.keyboard.press("Enter")
        page.wait_for_function(IN_SIGHT, arg=sections[-1], timeout=5000)
        # Tables that are wider than the window are scrolled with arrows, so the focus has to reach them.
        reachable = page.locator("table").evaluate_all(
            "all => all.map(it => it.closest('.scroll')?.tabIndex === 0)"
        )
        assert reachable
        assert all(reachable)


IN_SIGHT = """id => {
  const { top, bottom } = document.querySelector(id).getBoundingClientRect();
  return top < innerHeight && bottom > 0;
}"""
OUTLINED = """() => {
  const it = document.activeElement, shown = it.closest("label") ?? it;
  return parseFloat(getComputedStyle(shown).outlineWidth) > 0 && getComputedStyle(shown).outlineStyle !== "none";
}"""


def picture_of_a_line(x: int, *, width: int = 2, smooth: int = 0) -> np.ndarray:
    """A dark line from top to bottom on white; ``smooth`` lightens its right edge."""
    picture = np.full((64, 96, 3), 255, np.uint8)
    picture[:, x : x + width] = 40
    picture[:, x + width - 1] += smooth
    return picture


@pytest.mark.parametrize(
    ("other", "is_same"),
    [
        (picture_of_a_line(30, smooth=120), True),
        (picture_of_a_line(31), True),
        (picture_of_a_line(34), False),
        (picture_of_a_line(30, width=1), True),
        (np.full((64, 96, 3), 255, np.uint8), False),
        (picture_of_a_line(30) - 20, True),
        (picture_of_a_line(30) - 30, False),
    ],
)
def test_smoothing_is_no_difference_and_a_move_is_one(other, is_same):
    share = worst_share(differing(picture_of_a_line(30), other))
    assert (share <= 0.04) == is_same


def test_a_picture_that_differs_is_left_beside_where_it_does(tmp_path):
    stored, new = tmp_path / "stored.png", tmp_path / "new.png"
    Image.fromarray(picture_of_a_line(34)).save(new)
    compare(new, stored, write=True)
    compare(new, stored, write=False)
    Image.fromarray(picture_of_a_line(30)).save(new)
    with pytest.raises(
        pytest.fail.Exception, match=r"new\.png is not .*stored\.png.*new\.difference\.png"
    ):
        compare(new, stored, write=False)
    with Image.open(tmp_path / "new.difference.png") as difference:
        red = (np.asarray(difference) == (255, 0, 0)).all(-1)
    assert set(np.argwhere(red)[:, 1]) == {30, 31, 34, 35}
    Image.fromarray(picture_of_a_line(30)[:50]).save(new)
    with pytest.raises(AssertionError, match=r"\(96, 50\)"):
        compare(new, stored, write=False)
