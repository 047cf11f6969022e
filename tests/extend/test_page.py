"""The page shows the parts of these tests as they are."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_code_of_the_page_is_that_of_the_tests():
    page = (ROOT / "docs" / "extend.md").read_text()
    tested = "\n".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py"))
    shown = re.findall(r"(?ms)^(?:@dataclass[^\n]*\n)?(?:class|def) .*?(?=\n\n\n|\n```)", page)
    assert len(shown) >= 18
    for part in shown:
        assert part in tested, part
