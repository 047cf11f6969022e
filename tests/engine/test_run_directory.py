from smca.engine import has_checkpoint, set_earlier_run_aside


def leave_run(root, mark):
    files = [
        "model_0000099.pth", "model_final.pth", "model_best.pth", "last_checkpoint", "metrics.json",
        "convergence.png", "config.yaml", "log.txt", "log.txt.rank1", "events.out.tfevents.1.a.2",
    ]  # fmt: skip
    root.mkdir(exist_ok=True)
    for name in files:
        (root / name).write_text(f"{mark} {name}")
    return {name: f"{mark} {name}" for name in files}


def contents(root):
    return {path.name: path.read_text() for path in root.iterdir() if path.is_file()}


def test_everything_of_the_run_is_kept(tmp_path):
    run = leave_run(tmp_path, "first")
    (tmp_path / "notes.md").write_text("mine")
    aside = set_earlier_run_aside(str(tmp_path))
    assert aside == tmp_path / "earlier_run_1"
    assert contents(aside) == run
    assert contents(tmp_path) == {"notes.md": "mine"}
    assert not has_checkpoint(str(tmp_path))


def test_every_run_gets_its_own_place(tmp_path):
    runs = []
    for mark in ("first", "second", "third"):
        runs.append(leave_run(tmp_path, mark))
        set_earlier_run_aside(str(tmp_path))
    for number, run in enumerate(runs, start=1):
        assert contents(tmp_path / f"earlier_run_{number}") == run


def test_a_run_that_ended_before_its_first_checkpoint_is_one_too(tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    assert not has_checkpoint(str(tmp_path))
    aside = set_earlier_run_aside(str(tmp_path))
    assert contents(aside) == {"metrics.json": "{}"}
    assert not (tmp_path / "metrics.json").exists()


def test_nothing_moves_without_an_earlier_run(tmp_path):
    (tmp_path / "model_best.pth").write_text("of someone else")
    assert not has_checkpoint(str(tmp_path))
    assert set_earlier_run_aside(str(tmp_path)) is None
    assert contents(tmp_path) == {"model_best.pth": "of someone else"}


def test_a_directory_that_is_not_there(tmp_path):
    missing = tmp_path / "missing"
    assert not has_checkpoint(str(missing))
    assert set_earlier_run_aside(str(missing)) is None
    assert not missing.exists()
