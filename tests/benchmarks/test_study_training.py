import json

from convergence.store import Store
from convergence.training import RememberingMapper, outcome, read_metrics

CLOCKS = {"study/seconds": 3.0, "study/cpu_seconds": 2.0}


def _write(folder, *lines):
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_curve_has_evaluations_with_the_time_until_them(tmp_path):
    _write(
        tmp_path,
        {"iteration": 19, "total_loss": 9.0, "study/seconds": 1.0, "study/cpu_seconds": 0.5},
        # Loss and evaluation of an iteration may be in lines of their own.
        {"iteration": 39, "total_loss": 4.0, **CLOCKS},
        {"iteration": 39, "bbox/AP": 12.34567, "bbox/APl": float("nan"), "bbox/APs": 1.0},
    )
    found = outcome(read_metrics(tmp_path), steps=40, diverged=None)
    (point,) = found["curve"]
    assert (point["step"], point["seconds"], point["cpu_seconds"]) == (40, 3.0, 2.0)
    assert (point["AP"], point["APs"], point["APl"]) == (12.346, 1.0, None)
    assert (found["loss_first"], found["loss_last"]) == (9.0, 4.0)


def test_diverged_run_ends_with_nothing(tmp_path):
    _write(tmp_path, {"iteration": 19, "bbox/AP": 5.0, **CLOCKS})
    found = outcome(read_metrics(tmp_path), steps=40, diverged="the loss is nan")
    assert [(point["step"], point["AP"]) for point in found["curve"]] == [(20, 5.0), (40, 0.0)]
    assert found["diverged"] == "the loss is nan"


def test_images_are_read_once():
    calls = []

    def mapper(record):
        calls.append(record["file_name"])
        return {"image": record["file_name"]}

    remembering = RememberingMapper(mapper)
    first = remembering({"file_name": "a"})
    first["image"] = "changed by who got it"
    assert remembering({"file_name": "a"}) == {"image": "a"}
    assert remembering({"file_name": "b"}) == {"image": "b"}
    assert calls == ["a", "b"]


def test_stored_record_comes_back(tmp_path, make_record):
    record = make_record("main", "detr", 0, aps=[1.0, 2.0])
    store = Store(tmp_path)
    store.save("main-detr-seed0", record)
    assert store.load() == {"main-detr-seed0": record}
    assert [path.name for path in store.runs.iterdir()] == ["main-detr-seed0.json"]
