"""The page: its figures are the evaluator's, and it takes whatever data, names and runs there are."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from helpers.outcomes import evaluated, random_case
from smca.report import ReportedRun, write_report
from smca.report.analysis import analyze
from smca.report.charts import SHOWN_IOUS, precision_lines
from smca.report.reported_run import curves_or_reason

BOX = (10, 10, 30, 30)


class Page(HTMLParser):
    """Rows of tables as lists of text, and everything that a tag refers to."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.rows, self.text, self.tags, self.references, self.ids = [], "", [], [], set()
        self._cell = None
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        named = dict(attributes)
        self.references += [named[key] for key in ("src", "href", "xlink:href") if key in named]
        self.ids.add(named.get("id"))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append(" ".join(self._cell.split()))
            self._cell = None

    def handle_data(self, data):
        self.text += data
        if self._cell is not None:
            self._cell += data

    def row(self, start):
        return next(row for row in self.rows if row and row[0].split(" ")[0] == start)


@pytest.fixture
def page_of(tmp_path):
    def write(*runs, **options):
        write_report(tmp_path / "page.html", runs, **options)
        return Page(tmp_path / "page.html")

    return write


@pytest.fixture
def outcome(tmp_path):
    objects, found = random_case(1)
    return evaluated(tmp_path, objects, found, names=("ant", "bee", "cow"), images=6)


def test_figures_are_the_evaluators(page_of, outcome):
    page = page_of(ReportedRun("run", outcome=outcome))
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100"):
        value = outcome.numbers[name]
        assert page.row(name)[1] == ("–" if np.isnan(value) else f"{value:.1f}"), name
    for name in outcome.class_names:
        assert page.row(name)[2] == f"{outcome.class_ap[name]:.1f}"
    assert page.row("small")[2] == f"{outcome.numbers['APs']:.1f}"


def test_area_below_the_precision_curve_is_the_evaluators_ap(outcome):
    lines = precision_lines(outcome, "black")
    assert [line.label for line in lines] == [f"IoU {iou:g}" for iou in SHOWN_IOUS]
    assert 100 * np.mean(lines[0].y) == pytest.approx(outcome.numbers["AP50"])
    assert 100 * np.mean(lines[1].y) == pytest.approx(outcome.numbers["AP75"])


def test_counts_on_the_page_are_those_of_the_threshold(page_of, outcome):
    page = page_of(ReportedRun("run", outcome=outcome), threshold=0.4)
    analysis = analyze(outcome, 0.4)
    assert sum(analysis.counts.values()) > 5
    for kind, count in analysis.counts.items():
        assert page.row(kind)[1] == str(count)
    shown = [row for row in page.rows if row and len(row) == 5][-len(analysis.matrix) :]
    assert [row[0] for row in shown] == [*outcome.class_names, "nothing there"]
    assert [
        [int(cell.replace("·", "0")) for cell in row[1:]] for row in shown
    ] == analysis.matrix.tolist()


def test_it_is_complete_in_itself_and_links_lead_somewhere(page_of, outcome):
    page = page_of(ReportedRun("run", outcome=outcome))
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert not re.search(r"@import|url\(", page.source)
    for reference in page.references:
        assert reference.startswith(("data:", "#"))
        assert not reference.startswith("#") or reference[1:] in page.ids


def test_names_of_any_kind(tmp_path, page_of):
    names = ("<script>alert(1)</script>", "🐱 猫 قط", "x" * 300, "a&b $x$ \"q\" 'r'")
    objects = [(0, k, (5 + 20 * k, 10, 18, 18)) for k in range(4)]
    found = [(0, (k + 1) % 4, box, 0.5) for _, k, box in objects]
    outcome = evaluated(tmp_path, objects, found, names=names, with_files=True)
    page = page_of(ReportedRun("</title><b>", facts=(("a", "<i>"),), outcome=outcome))
    assert page.tags.count("script") == 1
    assert not {"b", "i"} & set(page.tags)
    shown = [row[0] for row in page.rows if row]
    assert all(" ".join(name.split()) in shown for name in names)


def test_many_classes_are_all_listed_and_the_most_confused_in_the_matrix(tmp_path, page_of):
    names = tuple(f"class{k}" for k in range(365))
    objects = [(0, k, (k % 19 * 5, k // 19 * 5, 4, 4)) for k in range(365)]
    found = [(0, k + 1 if k == 200 else k, box, 0.5) for _, k, box in objects]
    page = page_of(ReportedRun("run", outcome=evaluated(tmp_path, objects, found, names=names)))
    assert {row[0] for row in page.rows if row} >= set(names)
    assert "345 others are left out" in page.text
    header = next(row for row in page.rows if row and row[-1] == "missed")
    assert len(header) == 22
    assert {"class200", "class201"} <= set(header)
    assert "class200 taken for class201 (1)" in page.text


@pytest.mark.parametrize(
    ("objects", "found", "ap"),
    [
        ([], [], "–"),
        ([(0, 0, BOX)], [], "0.0"),
        ([], [(0, 0, BOX, 0.9)], "–"),
        ([(0, 0, BOX)], [(0, 0, BOX, 1)], "100.0"),
    ],
)
def test_one_class_with_and_without_objects_and_detections(tmp_path, page_of, objects, found, ap):
    page = page_of(ReportedRun("run", outcome=evaluated(tmp_path, objects, found, names=("cat",))))
    assert page.row("AP")[1] == page.row("cat")[2] == ap


def test_an_image_that_cannot_be_read_is_named(tmp_path, page_of):
    outcome = evaluated(tmp_path, [(1, 0, BOX)], [], with_files=True)
    (tmp_path / "1.png").unlink()
    page = page_of(ReportedRun("run", outcome=outcome))
    assert f"{tmp_path / '1.png'}: there is no such file" in page.text


def test_worst_images_come_first_with_truth_beside_detections(tmp_path, page_of):
    found = [(1, 1, BOX, 0.9), (1, 0, (60, 60, 20, 20), 0.8), (0, 0, (60, 60, 20, 20), 0.8)]
    outcome = evaluated(tmp_path, [(0, 0, BOX), (1, 0, BOX)], found, with_files=True)
    page = page_of(ReportedRun("run", outcome=outcome), threshold=0.5)
    assert sum(r.startswith("data:image/jpeg") for r in page.references) == 4
    assert "1 of kind background, 1 missed" in page.text
    assert "1 of kind class, 1 of kind background" in page.text
    # Now only the second has a wrong detection, and it is no miss where a wrong class is on the object.
    page = page_of(ReportedRun("run", outcome=outcome), threshold=0.85, images=1)
    assert sum(r.startswith("data:image/jpeg") for r in page.references) == 2
    assert "0.png" in page.text


def test_attention_of_the_worst_images(tmp_path, page_of):
    def draw(path, threshold):
        asked.append((path, threshold))
        return None if path.endswith("0.png") else np.zeros((4, 4, 3), np.uint8)

    asked = []
    outcome = evaluated(tmp_path, [(0, 0, BOX), (1, 0, BOX)], [], with_files=True)
    page = page_of(ReportedRun("run", outcome=outcome, draw_attention=draw), threshold=0.3)
    assert asked == [(str(tmp_path / name), 0.3) for name in ("0.png", "1.png")]
    assert "Where it looked" in page.text
    assert page.source.count("Spatial prior of detections in") == 1
    page = page_of(ReportedRun("run", outcome=outcome, draw_attention=lambda *_: None))
    assert "Where it looked" not in page.text


def test_a_run_without_evaluation_says_what_is_missing(tmp_path, page_of):
    curves, missing = curves_or_reason(tmp_path / "metrics.json")
    assert missing == (
        f"There are no training curves: {tmp_path / 'metrics.json'} does not exist.",
    )
    line = {"iteration": 19, "total_loss": 3.5}
    (tmp_path / "metrics.json").write_text(json.dumps(line) + "\n" + json.dumps(line)[:9])
    curves, missing = curves_or_reason(tmp_path / "metrics.json")
    page = page_of(ReportedRun("run", curves=curves, missing=missing))
    assert "the training was not evaluated on the way" in page.text
    assert "Errors by kind" not in page.text
    assert "img" in page.tags


def test_runs_beside_each_other(tmp_path, page_of, outcome):
    other = evaluated(tmp_path, [(0, 0, BOX)], [(0, 0, BOX, 0.9)], names=("bee", "new"))
    runs = [
        ReportedRun("one", outcome=outcome),
        ReportedRun("two", outcome=other),
        ReportedRun("bare"),
    ]
    page = page_of(*runs)
    assert page.row("AP")[1:4] == [f"{outcome.numbers['AP']:.1f}", "100.0", "–"]
    ap = outcome.class_ap["bee"]
    assert page.row("bee")[2].split() == [f"{ap:.1f}", "100.0", "–"]
    assert page.row("new")[2].split() == ["–", "–", "–"]
    assert "different data" in page.text


def test_ap_of_averaged_weights_and_epochs(tmp_path):
    lines = [
        {"iteration": 9, "epoch": 1.0, "bbox/AP": 10.0, "bbox_ema/AP": 12.0, "total_loss": 2.0},
        {"iteration": 19, "epoch": 2.0, "bbox/AP": 20.0, "bbox_ema/AP": 22.0, "total_loss": 1.0},
    ]
    path = tmp_path / "metrics.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    curves, missing = curves_or_reason(path)
    assert not missing
    assert [p.value for p in curves.numbers["AP"]] == [12.0, 22.0]
    assert curves.iterations_per_epoch == 10
    assert ReportedRun("run", curves=curves).recorded_ap == 22.0


def test_an_evaluation_that_the_training_did_not_measure_is_told(tmp_path, page_of, outcome):
    def page(ap):
        line = {"iteration": 9, "epoch": 1.0, "bbox/AP": ap, "total_loss": 2.0}
        (tmp_path / "metrics.json").write_text(json.dumps(line))
        curves, _ = curves_or_reason(tmp_path / "metrics.json")
        return page_of(ReportedRun("run", curves=curves, outcome=outcome)).text

    assert "The training itself measured" not in page(outcome.numbers["AP"])
    assert "The training itself measured an AP of 99.00 last" in page(99.0)
