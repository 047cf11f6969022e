import json

import pytest
from convergence import tables
from convergence.numbers import Spread, ap_at_time, speedup, steps_to_reach
from convergence.report import write_report
from convergence.store import Store

from smca.errors import InputError

CURVE = [{"step": 100, "AP": 10.0}, {"step": 200, "AP": 30.0}, {"step": 300, "AP": 20.0}]


@pytest.mark.parametrize(
    ("ap", "steps"),
    [(5.0, 50.0), (10.0, 100.0), (20.0, 150.0), (30.0, 200.0), (30.1, None), (0.0, 0.0)],
)
def test_steps_to_reach_an_ap(ap, steps):
    assert steps_to_reach(CURVE, ap) == steps


def test_steps_to_reach_on_a_flat_curve():
    assert steps_to_reach([{"step": 10, "AP": 0.0}, {"step": 20, "AP": 4.0}], 2.0) == 15.0


def test_ap_at_a_time():
    curve = [
        {"seconds": 99.0, "cpu_seconds": 10.0, "AP": 4.0},
        {"seconds": 99.0, "cpu_seconds": 20.0, "AP": 8.0},
    ]
    assert ap_at_time(curve, 5.0) == 2.0
    assert ap_at_time(curve, 15.0) == 6.0
    assert ap_at_time(curve, 20.0) == 8.0
    assert ap_at_time(curve, 20.1) is None


def test_speedup_has_a_ratio_of_each_pair(make_record):
    fast = [
        make_record("main", "smca_single_scale", s, aps=[ap]) for s, ap in ((0, 20.0), (1, 40.0))
    ]
    slow = [make_record("long_detr", "detr", 0, aps=[10.0, 20.0, 30.0, 40.0, 50.0], steps=1000)]
    found = speedup(fast, slow)
    # 20 is there after 400 of the 100 steps, 40 after 800.
    assert found.ratios == (4.0, 8.0)
    assert str(found) == "4.0x to 8.0x"


def test_detr_that_never_arrives_is_more_than_its_length(make_record):
    fast = [
        make_record("main", "smca_single_scale", s, aps=[ap]) for s, ap in ((0, 20.0), (1, 60.0))
    ]
    slow = [make_record("long_detr", "detr", 0, aps=[10.0, 50.0], steps=1000)]
    # From 10 to 50 between 500 and 1000 steps: 20 after 625.
    assert str(speedup(fast, slow)) == "6.2x to > 10x"
    assert str(speedup(fast[1:], slow)) == "> 10x"
    assert str(speedup([], slow)) == "–"


def test_spread_is_of_the_seeds():
    spread = Spread.of([1.0, 2.0, 6.0])
    assert str(spread) == "3.0 (1.0 to 6.0)"
    assert str(Spread.of([1.26])) == "1.3"
    assert spread.overlaps(Spread.of([6.0, 9.0]))
    assert not spread.overlaps(Spread.of([6.1, 9.0]))


def _results(make_record, aps):
    return {
        f"{part}-{variant}-seed{seed}": make_record(part, variant, seed, aps=[ap])
        for (part, variant), values in aps.items()
        for seed, ap in enumerate(values)
    }


def test_order_against_the_paper_counts_only_beyond_the_spread(make_record):
    aps = {
        ("main", "detr"): (1.0, 2.0),
        ("main", "smca_single_scale"): (8.0, 9.0),
        # In the paper fixed < head-shared < single.
        ("table2", "fixed"): (9.5, 9.9),
        ("table2", "head_shared"): (8.5, 9.6),
        ("table2", "single"): (8.0, 8.4),
    }
    lines = tables.order_lines(_results(make_record, aps), "table2")
    assert [line.split(" here")[0] for line in lines] == [
        "fixed is above single",
        "fixed is above SMCA single-scale",
        "head-shared is above single",
    ]
    assert lines[0].endswith("9.7 (9.5 to 9.9) and 8.2 (8.0 to 8.4); paper: 38.5 and 40.4")


def test_tables_have_ours_and_the_papers_numbers_apart(make_record):
    aps = {("main", "detr"): (1.0, 2.0), ("table2", "fixed"): (3.0,)}
    table = tables.ablation_table(_results(make_record, aps), "table2")
    header, _, detr, head_shared, fixed, *_ = table.splitlines()
    assert header.split(" | ")[-3:] == ["paper: AP", "paper: AP50", "paper: AP75 |"]
    assert detr.split(" | ")[1:3] == ["2", "1.5 (1.0 to 2.0)"]
    assert detr.split(" | ")[-3:] == ["34.8", "56.2", "36.9 |"]
    # Not run, and large objects, of which there are none.
    assert head_shared.split(" | ")[1:3] == ["0", "–"]
    assert fixed.split(" | ")[1:8] == ["1", "3.0", "3.0", "3.0", "1.5", "3.0", "–"]


def test_equal_time_is_that_of_the_shortest_training(make_record):
    results = {
        "a": make_record("main", "smca", 0, aps=[10.0, 20.0], seconds=40.0),
        "b": make_record("main", "faster_rcnn", 0, aps=[30.0], seconds=10.0),
    }
    table = tables.equal_time_table(results)
    assert "AP after 10 s" in table
    smca, rcnn = table.splitlines()[2:]
    # A quarter of its training: half way to 10.
    assert (smca.split(" | ")[-1], rcnn.split(" | ")[-1]) == ("5.0 |", "30.0 |")


def test_report_is_made_of_records_alone(tmp_path, make_record):
    store = Store(tmp_path)
    for seed, ap in enumerate((20.0, 30.0)):
        store.save(
            f"main-smca_single_scale-seed{seed}",
            make_record("main", "smca_single_scale", seed, aps=[5.0, ap]),
        )
    store.save("main-detr-seed0", make_record("main", "detr", 0, aps=[1.0, 2.0]))
    store.save(
        "long_detr-detr-seed0", make_record("long_detr", "detr", 0, aps=[5.0, 25.0], steps=1000)
    )
    store.save("sweep-detr-x1-seed100", make_record("sweep", "detr", 100, aps=[2.5]))
    written = write_report(store)
    assert {path.name for path in written} == {
        "summary.json", "README.md", "ap_over_steps.png", "ap_over_time.png", "ap_by_size.png"
    }  # fmt: skip
    assert all(path.stat().st_size for path in written)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["parts"]["main"]["smca_single_scale"]["AP"] == [20.0, 30.0]
    # 20 on the way from 5 to 25, 30 never.
    assert summary["detr_over_smca_single_scale"] == {
        "ratios": [8.75, None],
        "text": "8.8x to > 10x",
    }
    text = (tmp_path / "README.md").read_text()
    assert "| SMCA single-scale | 2 | 25.0 (20.0 to 30.0) |" in text
    assert "| 1 | 30.0 | 100 | never | > 10x | 10x |" in text
    assert "| main | who learns how fast | 3 | 18 |" in text
    before = {path.name: path.read_bytes() for path in written}
    assert {path.name: path.read_bytes() for path in write_report(store)} == before


def test_report_without_any_run(tmp_path):
    written = write_report(Store(tmp_path))
    assert [path.name for path in written] == ["summary.json", "README.md"]
    assert "Not run yet." in written[1].read_text()


def test_file_that_is_no_record_is_named(tmp_path):
    store = Store(tmp_path)
    store.runs.mkdir()
    (store.runs / "main-detr-seed0.json").write_text('{"run": {"variant": "detr"}, "curve": []}')
    with pytest.raises(InputError, match=r"main-detr-seed0\.json is no record of a run"):
        store.load()
