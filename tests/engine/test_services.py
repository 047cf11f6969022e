"""W&B and MLflow get the numbers of metrics.json, once each, and nothing that they do reaches the training."""

import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections import defaultdict

import pytest
from detectron2.engine import HookBase

from helpers.tiny_training import KillAfter, Killed, assert_same, tiny_training
from smca.engine import services, set_earlier_run_aside
from smca.engine.run.record import RecordHook
from smca.engine.services import SERVICES, check_services, writer
from smca.engine.services.mlflow_run import metric_name
from smca.engine.settings.setting_checks import check_settings
from smca.experiments import load_experiment


class Note(HookBase):
    """Numbers of each iteration, as an evaluation's: one is NaN, and one has the name of an odd class."""

    def after_step(self):
        numbers = {"number": self.trainer.iter, "bbox/APl": math.nan, "bbox/AP-猫 (id 3)": 0.1}
        self.trainer.storage.put_scalars(**numbers, smoothing_hint=False)


class CutOff(RecordHook):
    """What a killed process does at its end: nothing but what the services' threads have in hand."""

    __qualname__ = RecordHook.__qualname__  # under which the state is saved

    def after_train(self):
        for service in self._services:
            service._queue.put(False)
            service._thread.join(60)


def training(folder, names, *, cut_off_after=None):
    """Ten steps, a checkpoint every second, a line for each."""
    kind = RecordHook if cut_off_after is None else CutOff
    record = kind(output_dir=str(folder), max_iter=10, period=1, services=names)
    kill = [] if cut_off_after is None else [KillAfter(cut_off_after)]
    return tiny_training(folder, extra_hooks=[Note(), record, *kill])


def train_with_a_kill(folder, names, *, pause=0.0):
    """The last checkpoint is that of iteration 5, where it ends."""
    with pytest.raises(Killed):
        training(folder, names, cut_off_after=5).run(0, 10)
    time.sleep(pause)
    return training(folder, names).resume(10)


def metrics(folder) -> dict[int, dict]:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return {line.pop("iteration"): line for line in lines}


def without_times(lines: dict[int, dict]) -> dict[int, dict]:
    """As text, in which NaN is NaN. Steps that are done again take another time."""
    return {
        iteration: {k: repr(v) for k, v in line.items() if "time" not in k and "seconds" not in k}
        for iteration, line in lines.items()
    }


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    uri = f"file:{tmp_path / 'mlruns'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MlflowClient(uri)


def of_mlflow(client) -> tuple[dict[int, dict], object]:
    """The numbers of the only run, by iteration, and the run."""
    (experiment,) = [e for e in client.search_experiments() if e.name == "smca"]
    (run,) = client.search_runs([experiment.experiment_id])
    found = defaultdict(dict)
    for name in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, name):
            assert name not in found[metric.step], "sent twice"
            found[metric.step][name] = metric.value
    return dict(found), run


def test_a_kill_is_told_and_iterations_that_are_done_again_are_not_sent_twice(
    tmp_path, mlflow_store
):
    """The last checkpoint is that of iteration 5, so that 6 is done again."""
    folder = tmp_path / "my_run"
    with pytest.raises(Killed):
        training(folder, ["mlflow"], cut_off_after=6).run(0, 10)
    found, run = of_mlflow(mlflow_store)
    assert set(found) == set(range(7))
    assert run.info.status == "KILLED"
    training(folder, ["mlflow"]).resume(10)
    found, run = of_mlflow(mlflow_store)
    assert set(found) == set(range(10))
    assert run.info.status == "FINISHED"


def test_a_local_mlflow_has_the_numbers_of_metrics_json(tmp_path, mlflow_store):
    folder = tmp_path / "my_run"
    folder.mkdir()
    (folder / "config.yaml").write_text("train: {seed: 3}\noptimizer: {lr: 0.05}\n")
    train_with_a_kill(folder, ["mlflow"])
    found, run = of_mlflow(mlflow_store)
    expected = {
        iteration: {metric_name(k): float(v) for k, v in line.items()}
        for iteration, line in metrics(folder).items()
    }
    assert without_times(found) == without_times(expected)
    assert set(found) == set(range(10))
    assert "bbox/AP-猫 _28_id 3_29_" in found[0]
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my_run")
    assert run.data.params == {"train.seed": "3", "optimizer.lr": "0.05"}


def test_an_offline_wandb_has_the_numbers_of_metrics_json(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from helpers.wandb_file import history

    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = tmp_path / "my_run"
    # W&B names folders by the second, and no training is resumed within one.
    train_with_a_kill(folder, ["wandb"], pause=1.1)
    # Each process that goes on leaves a folder of the same run, which `wandb sync` brings together.
    number = json.loads((folder / "service_wandb.json").read_text())["run"]
    files = sorted((folder / "wandb").glob(f"offline-run-*-{number}/run-{number}.wandb"))
    rows = [row for path in files for row in history(path)]
    found = {}
    for row in rows:
        row = {k: v for k, v in row.items() if not k.startswith("_")}
        iteration = row.pop("iteration")
        assert iteration not in found, "sent twice"
        # It writes 0.0 as 0.
        found[iteration] = {k: float(v) for k, v in row.items()}
    expected = without_times(metrics(folder))
    assert without_times(found) == expected
    assert set(found) == set(range(10))


class Fake:
    """A service that keeps what it gets, and fails or hangs where it is told to."""

    runs: dict = {}  # noqa: RUF012 - cleared by the fixture
    failing = False

    def __init__(self, *, run_id, name, folder, settings):
        self._fail()
        self.id = run_id or f"run{len(self.runs)}"
        self.lines = self.runs.setdefault(self.id, [])

    def _fail(self):
        if Fake.failing:
            raise KeyError("the service is\ndown")

    def log(self, line):
        self._fail()
        self.lines.append(line)

    def finish(self, *, succeeded):
        self._fail()
        self.lines.append(succeeded)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(SERVICES, "fake", Fake)
    monkeypatch.setattr(writer, "_PAUSE", 0.05)
    Fake.runs.clear()
    Fake.failing = False
    yield Fake
    Fake.failing = False


class FailBetween(HookBase):
    def __init__(self, start, stop):
        self.start, self.stop = start, stop

    def before_step(self):
        Fake.failing = self.start <= self.trainer.iter < self.stop


@pytest.mark.parametrize("start", [0, 3])
def test_a_service_that_fails_gets_all_later(tmp_path, fake, start, caplog):
    caplog.set_level(logging.WARNING)
    fake.failing = start == 0
    made = training(tmp_path, ["fake"])
    made.trainer.register_hooks([FailBetween(start, 6)])
    made.run(0, 10)
    ((lines),) = fake.runs.values()
    assert [line.iteration for line in lines[:-1]] == list(range(10))
    assert lines[-1] is True
    told = [r.message for r in caplog.records if "fake" in r.message]
    assert told[0] == "fake cannot be written ('the service is\\ndown'); the training goes on."
    assert told[1:] == ["fake can be written again."]


@pytest.mark.parametrize("bad", [{3}, {3, 4}, {9}])
def test_a_line_that_is_refused_holds_up_no_others(tmp_path, fake, monkeypatch, caplog, bad):
    def log(self, line):
        if line.iteration in bad:
            raise ValueError("no such number")
        self.lines.append(line)

    monkeypatch.setattr(fake, "log", log)
    monkeypatch.setattr(writer, "_PAUSE", 0.001)
    training(tmp_path, ["fake"]).run(0, 10)
    ((*lines, end),) = fake.runs.values()
    assert [line.iteration for line in lines] == [i for i in range(10) if i not in bad]
    assert end is True
    for iteration in range(10):
        told = f"fake does not take iteration {iteration} (no such number) and lacks it"
        assert caplog.text.count(told) == (iteration in bad)


def test_a_service_that_comes_back_while_later_lines_are_tried_gets_all(
    tmp_path, fake, monkeypatch
):
    tried = []

    def log(self, line):
        tried.append(line.iteration)
        # Down until a second line is tried after the first.
        if set(tried) == {0}:
            raise OSError("down")
        self.lines.append(line)

    monkeypatch.setattr(fake, "log", log)
    monkeypatch.setattr(writer, "_PAUSE", 0.001)
    training(tmp_path, ["fake"]).run(0, 10)
    ((*lines, _),) = fake.runs.values()
    assert sorted(line.iteration for line in lines) == list(range(10))


def test_an_outage_of_many_tries_loses_nothing(tmp_path, fake, monkeypatch):
    """However often it is tried in vain, and though many lines wait."""
    monkeypatch.setattr(writer, "_PAUSE", 0.001)
    made = training(tmp_path, ["fake"])
    made.trainer.register_hooks([FailBetween(1, 9)])
    made.run(0, 10)
    ((*lines, _),) = fake.runs.values()
    assert sorted(line.iteration for line in lines) == list(range(10))


def test_a_service_that_never_answers_costs_nothing_but_its_numbers(tmp_path, fake, caplog):
    fake.failing = True
    made = training(tmp_path / "failing", ["fake"])
    made.run(0, 10)
    assert fake.runs == {}
    fake.failing = False
    plain = training(tmp_path / "plain", []).run(0, 10)
    assert_same(made.everything(), plain.everything())
    assert without_times(metrics(tmp_path / "failing")) == without_times(
        metrics(tmp_path / "plain")
    )
    assert "fake lacks the last lines; metrics.json has them." in caplog.text


def test_a_service_that_hangs_does_not_keep_the_training(tmp_path, fake, monkeypatch, caplog):
    hanging = threading.Event()
    monkeypatch.setattr(writer, "_PATIENCE", 0.2)
    monkeypatch.setattr(fake, "log", lambda self, line: hanging.wait(30))
    training(tmp_path, ["fake"]).run(0, 10)
    hanging.set()
    assert "fake does not answer; what it lacks is in metrics.json." in caplog.text
    assert len(metrics(tmp_path)) == 10


def test_a_training_that_fails_is_no_success_and_a_resume_goes_on(tmp_path, fake):
    with pytest.raises(Killed):
        training(tmp_path, ["fake"], cut_off_after=7).run(0, 10)
    assert fake.runs["run0"][-1] is False
    before = [line.iteration for line in fake.runs["run0"][:-1]]
    # Six and seven are done again, and are not sent again.
    training(tmp_path, ["fake"]).resume(10)
    assert list(fake.runs) == ["run0"]
    after = [line.iteration for line in fake.runs["run0"][len(before) + 1 : -1]]
    assert before + after == list(range(10))
    assert fake.runs["run0"][-1] is True


class EvaluateLate(HookBase):
    """A number of iteration 5 that is found before the next one only: a made-up evaluation."""

    def before_train(self):
        if self.trainer.start_iter == 6:
            self.trainer.storage.iter = 5
            self.trainer.storage.put_scalar("bbox/AP", 7.0, smoothing_hint=False)


def test_an_evaluation_that_is_made_up_for_is_sent_alone(tmp_path, fake):
    with pytest.raises(Killed):
        training(tmp_path, ["fake"], cut_off_after=5).run(0, 10)
    again = training(tmp_path, ["fake"])
    again.trainer._hooks.insert(0, EvaluateLate())
    again.trainer._hooks[0].trainer = again.trainer
    again.resume(10)
    of_five = [
        line.numbers
        for line in fake.runs["run0"]
        if line not in (True, False) and line.iteration == 5
    ]
    assert of_five[-1] == {"bbox/AP": 7.0}
    assert "number" in of_five[0]
    assert len(of_five) == 2


def test_the_first_process_alone_sends(tmp_path, fake, monkeypatch):
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: False)
    training(tmp_path, ["fake"]).run(0, 10)
    assert fake.runs == {}


def test_an_absent_package_is_one_sentence_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(services, "find_spec", lambda name: None)
    cfg = load_experiment("digits/smca_single_scale", ["train.writers=[wandb]"])
    words = r"^train\.writers=\['wandb'\]: wandb is not installed; pip install 'smca\[wandb\]'$"
    with pytest.raises(ValueError, match=words):
        check_settings(cfg, training=True)
    check_services([])


def test_other_names_are_refused():
    cfg = load_experiment("digits/smca_single_scale", ["train.writers=[comet]"])
    with pytest.raises(
        ValueError, match=r"train\.writers=\['comet'\] must be a list of wandb and mlflow"
    ):
        check_settings(cfg, training=True)


def test_a_new_run_is_another_one_at_the_service(tmp_path, fake):
    training(tmp_path, ["fake"]).run(0, 10)
    aside = set_earlier_run_aside(str(tmp_path))
    assert (aside / "service_fake.json").is_file()
    training(tmp_path, ["fake"]).run(0, 10)
    assert list(fake.runs) == ["run0", "run1"]


def test_only_those_who_ask_wait_for_the_packages():
    code = "import smca.engine, sys; print({'wandb', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_names_that_mlflow_would_take_for_other_paths():
    assert metric_name("bbox/AP-a.b") == "bbox/AP-a.b"
    assert metric_name("bbox/AP-a//b") == "bbox_2f_AP-a_2f__2f_b"
    assert metric_name("bbox/AP-a/../b") == "bbox_2f_AP-a_2f_.._2f_b"
    assert metric_name("bbox/AP-a/") == "bbox_2f_AP-a_2f_"


def test_an_mlflow_that_takes_no_settings_gets_the_numbers(tmp_path, mlflow_store, monkeypatch):
    from mlflow import MlflowClient

    whole = MlflowClient.log_batch

    def without_settings(self, run_id, metrics=(), params=(), **options):
        if params:
            raise RuntimeError("no settings here")
        whole(self, run_id, metrics=metrics, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", without_settings)
    folder = tmp_path / "my_run"
    folder.mkdir()
    (folder / "config.yaml").write_text("train: {seed: 3}\n")
    training(folder, ["mlflow"]).run(0, 3)
    found, _ = of_mlflow(mlflow_store)
    assert set(found) == set(range(3))
