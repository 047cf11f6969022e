import dataclasses
import errno
import io
import json
import logging
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from helpers.tiny_training import CallAt, Killed, TinyModel, assert_same, tiny_training
from smca.description.model_info import INFO_KEY, ModelInfo
from smca.engine import CheckpointWriteError, has_checkpoint
from smca.engine.run.newest_checkpoint import load_newest_weights, newest_checkpoint

STEPS = 7
NAMES = ["model_0000001.pth", "model_0000003.pth", "model_0000005.pth"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Everything at the end of a training that was never stopped, and its directory, not to be changed."""
    directory = tmp_path_factory.mktemp("whole")
    return tiny_training(directory).run(0, STEPS)


@pytest.fixture
def stopped(tmp_path_factory, tmp_path):
    """The directory of a training of six iterations out of seven that was killed then."""
    with pytest.raises(Killed):
        tiny_training(tmp_path, extra_hooks=[CallAt(5, after=kill)]).run(0, STEPS)
    assert checkpoints(tmp_path) == NAMES
    return tmp_path


def kill():
    raise Killed


def checkpoints(directory):
    return sorted(path.name for path in directory.glob("*.pth"))


def manifest(directory):
    return json.loads((directory / "checkpoints.json").read_text())


def load(path):
    return torch.load(path, weights_only=True)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def empty(path):
    path.write_bytes(b"")


def flip(path):
    """One bit of a tensor, which PyTorch's reader would not notice."""
    content = bytearray(path.read_bytes())
    weight = load(path)["model"]["hidden.weight"].numpy().tobytes()
    content[content.index(weight) + 1] ^= 1
    path.write_bytes(content)


DAMAGES = [truncate, zero, empty, flip]


def test_content(whole):
    content = load(whole.directory / "model_0000003.pth")
    assert content.keys() == {"model", "ema", "trainer", "iteration", INFO_KEY}
    assert content["iteration"] == 3
    assert content["trainer"]["iteration"] == 3
    assert content["model"].keys() == whole.model.state_dict().keys()
    assert content["ema"]["model"].keys() == whole.model.state_dict().keys()
    assert ModelInfo.from_json(content[INFO_KEY]).class_names == ("a", "b")


def test_names_and_manifest(whole):
    assert checkpoints(whole.directory) == [*NAMES, "model_final.pth"]
    assert (whole.directory / "last_checkpoint").read_text() == "model_final.pth"
    written = manifest(whole.directory)
    assert {name: entry["iteration"] for name, entry in written.items()} == {
        "model_0000001.pth": 1,
        "model_0000003.pth": 3,
        "model_0000005.pth": 5,
        "model_final.pth": 6,
    }
    for name, entry in written.items():
        assert entry["bytes"] == (whole.directory / name).stat().st_size
    assert not list(whole.directory.glob("*.part"))


def test_a_resumed_training_ends_bit_identical(stopped, whole):
    resumed = tiny_training(stopped).resume(STEPS)
    assert_same(resumed.everything(), whole.everything())
    assert resumed.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(
        whole.trainer.optimizer.param_groups[0]["lr"], abs=0
    )


def test_raw_and_averaged_weights_differ(whole):
    content = load(whole.directory / "model_final.pth")
    assert not torch.equal(
        content["model"]["hidden.weight"], content["ema"]["model"]["hidden.weight"]
    )
    torch.testing.assert_close(
        content["ema"]["model"]["hidden.weight"], whole.average.model.hidden.weight.detach()
    )


def test_old_ones_are_pruned_after_a_resume_too(tmp_path):
    with pytest.raises(Killed):
        tiny_training(tmp_path, period=1, max_to_keep=2, extra_hooks=[CallAt(4, after=kill)]).run(
            0, 9
        )
    assert checkpoints(tmp_path) == ["model_0000003.pth", "model_0000004.pth"]
    tiny_training(tmp_path, period=1, max_to_keep=2).resume(9)
    assert checkpoints(tmp_path) == ["model_0000006.pth", "model_0000007.pth", "model_final.pth"]
    assert manifest(tmp_path).keys() == set(checkpoints(tmp_path))


def test_all_are_kept_on_request(tmp_path):
    tiny_training(tmp_path, period=1, max_to_keep=None).run(0, 6)
    assert len(checkpoints(tmp_path)) == 6


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_is_named_and_the_one_before_it_used(stopped, whole, damage, caplog):
    damage(stopped / NAMES[2])
    with caplog.at_level(logging.WARNING, "smca"):
        training = tiny_training(stopped)
        assert training.checkpointer.resume() == 4
    (record,) = caplog.records
    assert NAMES[2] in record.getMessage()
    assert_same(training.run(4, STEPS).everything(), whole.everything())
    # Written anew on the way, so nothing damaged is left.
    assert newest_checkpoint(stopped).name == "model_final.pth"
    assert load(stopped / NAMES[2])["iteration"] == 5


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_shows_without_a_manifest_too(stopped, damage, caplog):
    (stopped / "checkpoints.json").unlink()
    damage(stopped / NAMES[2])
    with caplog.at_level(logging.WARNING, "smca"):
        assert tiny_training(stopped).checkpointer.resume() == 4
    assert NAMES[2] in caplog.text


def test_a_damaged_final_one(whole, tmp_path, caplog):
    directory = shutil.copytree(whole.directory, tmp_path / "copy")
    truncate(directory / "model_final.pth")
    for lost in (False, True):
        if lost:
            (directory / "checkpoints.json").unlink()
        with caplog.at_level(logging.WARNING, "smca"):
            assert newest_checkpoint(directory).name == "model_0000005.pth"
        assert "model_final.pth is damaged" in caplog.text
        caplog.clear()


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "\0" * 300,
        '{"model_00',
        "[]",
        "null",
        f'{{"{NAMES[2]}": 3}}',
        f'{{"{NAMES[2]}": {{"bytes": "x"}}}}',
    ],
)
def test_a_lost_or_damaged_manifest_costs_nothing(stopped, whole, text, caplog):
    file = stopped / "checkpoints.json"
    file.unlink() if text is None else file.write_text(text)
    # A copy of the directory may have any times.
    os.utime(stopped / NAMES[0])
    with caplog.at_level(logging.WARNING, "smca"):
        training = tiny_training(stopped)
        assert training.checkpointer.resume() == 6
    assert not caplog.records
    assert_same(training.run(6, STEPS).everything(), whole.everything())
    assert newest_checkpoint(stopped).name == "model_final.pth"


def test_the_final_one_counts_by_its_iteration(whole, tmp_path):
    """A finished training that goes on for longer: the final file of before is older than the newest."""
    directory = shutil.copytree(whole.directory, tmp_path / "copy")
    with pytest.raises(Killed):
        tiny_training(directory, extra_hooks=[CallAt(9, after=kill)]).resume(12)
    assert newest_checkpoint(directory).name == "model_0000009.pth"
    (directory / "checkpoints.json").unlink()
    os.utime(directory / "model_final.pth")
    assert newest_checkpoint(directory).name == "model_0000009.pth"


def test_all_damaged(stopped):
    for name, damage in zip(NAMES, (truncate, zero, empty), strict=True):
        damage(stopped / name)
    message = (
        r"--resume: no checkpoint of .* can be read \(.*0000005.*0000003.*0000001\.pth damaged\)"
    )
    with pytest.raises(ValueError, match=message):
        tiny_training(stopped).checkpointer.resume()


def test_a_file_that_is_no_checkpoint_of_a_training(stopped, caplog):
    torch.save({"model": TinyModel().state_dict()}, stopped / "model_0000008.pth")
    torch.save([1, 2], stopped / "model_0000009.pth")
    with caplog.at_level(logging.WARNING, "smca"):
        assert tiny_training(stopped).checkpointer.resume() == 6
    assert caplog.text.count("it holds no state to resume from") == 2


def test_another_model(stopped):
    class Wider(TinyModel):
        def __init__(self):
            super().__init__()
            self.out = torch.nn.Linear(4, 2)
            self.more = torch.nn.Linear(1, 1)

    with pytest.raises(ValueError, match=r"model_0000005\.pth does not fit this config") as caught:
        tiny_training(stopped, model=Wider()).checkpointer.resume()
    assert "\n" not in str(caught.value)
    assert str(stopped / "config.yaml") in str(caught.value)
    with pytest.raises(ValueError, match=r"model_0000005\.pth does not fit this config"):
        load_newest_weights(Wider(), stopped)


def test_weights_alone_for_an_evaluation(stopped, caplog):
    # Killed between the file and "last_checkpoint", and the newest damaged.
    (stopped / "last_checkpoint").unlink()
    truncate(stopped / NAMES[2])
    model = TinyModel()
    with caplog.at_level(logging.WARNING, "smca"):
        load_newest_weights(model, stopped)
    expected = load(stopped / NAMES[1])["model"]
    assert_same(model.state_dict(), expected)
    assert NAMES[2] in caplog.text


def test_averaged_weights_that_the_checkpoint_lacks(tmp_path):
    tiny_training(tmp_path, ema=False).run(0, 2)
    with pytest.raises(ValueError, match=r"without EMA weights, but train\.ema\.enabled is set"):
        tiny_training(tmp_path).checkpointer.resume()


def test_averaged_weights_that_are_not_wanted_any_more(stopped):
    training = tiny_training(stopped, ema=False).resume(STEPS)
    assert "ema" not in load(stopped / "model_final.pth")
    assert training.average is None


def test_best(whole, tmp_path):
    training = tiny_training(tmp_path)
    training.checkpointer.save_best(4, {"bbox/AP": 12.5})
    content = load(tmp_path / "model_best.pth")
    assert content.keys() == {"model", "ema", "iteration", INFO_KEY}
    info = ModelInfo.from_json(content[INFO_KEY])
    assert (dict(info.metrics), info.class_names) == ({"bbox/AP": 12.5}, ("a", "b"))
    # Nothing to resume from.
    assert not has_checkpoint(tmp_path)


def test_a_full_disk(stopped, whole, monkeypatch):
    def save(content, file):
        real(content, file)
        file.flush()
        file.truncate(100)
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {name: (stopped / name).read_bytes() for name in NAMES}
    training, real = tiny_training(stopped), torch.save
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CheckpointWriteError, match=r"model_final\.pth: No space left") as caught:
        training.resume(STEPS)
    assert "\n" not in str(caught.value)
    assert {name: (stopped / name).read_bytes() for name in NAMES} == before
    assert not list(stopped.glob("*.part"))
    monkeypatch.undo()
    assert_same(tiny_training(stopped).resume(STEPS).everything(), whole.everything())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_disk_that_really_is_full(stopped):
    training = tiny_training(stopped)
    training.checkpointer.resume()
    (stopped / "model_0000006.pth.part").symlink_to("/dev/full")
    with pytest.raises(CheckpointWriteError, match=r"model_0000006\.pth: No space left on device"):
        training.checkpointer.save(6)
    assert not list(stopped.glob("*.part"))
    assert tiny_training(stopped).checkpointer.resume() == 6


class FullForAMoment(io.FileIO):
    """PyTorch's writer meets the error and raises another one; closing the file meets none."""

    is_full = True

    def write(self, data):
        if self.is_full and self.tell():
            self.is_full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_that_only_pytorch_has_met(stopped, monkeypatch):
    training = tiny_training(stopped)
    training.checkpointer.resume()
    monkeypatch.setattr(training.checkpointer, "_weights", lambda *_: {"w": torch.zeros(10**6)})
    monkeypatch.setattr(io, "FileIO", FullForAMoment)
    with pytest.raises(CheckpointWriteError, match=r"model_0000006\.pth: No space left on device"):
        training.checkpointer.save(6)
    monkeypatch.undo()
    assert not list(stopped.glob("*.part"))
    assert tiny_training(stopped).checkpointer.resume() == 6


def test_another_error_of_the_writer_is_no_full_disk(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        tiny_training(tmp_path).checkpointer.save(2)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_is_gone(tmp_path):
    directory = tmp_path / "gone"
    directory.mkdir()
    training = tiny_training(directory)
    directory.rmdir()
    with pytest.raises(CheckpointWriteError, match="No such file or directory"):
        training.run(0, 2)


def killed_at(monkeypatch, call: int, *, after: bool):
    """``os.replace`` ends the process before or after its n-th call."""
    real, count = os.replace, iter(range(1000))

    def replace(source, target):
        if next(count) != call:
            return real(source, target)
        if after:
            real(source, target)
        raise Killed

    monkeypatch.setattr(os, "replace", replace)


# Every checkpoint is four renamed files: itself, the manifest, "last_checkpoint" and the pruned manifest.
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", [0, 1, 4, 5, 6, 7, 8, 11])
def test_killed_between_any_two_writes(tmp_path, whole, monkeypatch, call, after, caplog):
    options = {"period": 1, "max_to_keep": 2}
    killed_at(monkeypatch, call, after=after)
    with pytest.raises(Killed):
        tiny_training(tmp_path, **options).run(0, STEPS)
    monkeypatch.undo()
    training = tiny_training(tmp_path, **options)
    if call or after:
        start = training.checkpointer.resume()
        assert start == call // 4 + int(after or call % 4 > 0)
    else:
        assert not has_checkpoint(tmp_path)
        start = 0
    assert not caplog.records
    assert_same(training.run(start, STEPS).everything(), whole.everything())
    assert not list(tmp_path.glob("*.part"))
    assert checkpoints(tmp_path) == ["model_0000004.pth", "model_0000005.pth", "model_final.pth"]


def test_killed_while_pruning(stopped, monkeypatch):
    training = tiny_training(stopped, max_to_keep=2)
    training.checkpointer.resume()
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: kill())
    with pytest.raises(Killed):
        training.checkpointer.save(6)
    monkeypatch.undo()
    assert tiny_training(stopped).checkpointer.resume() == 7
    tiny_training(stopped, max_to_keep=2).checkpointer.save(7)
    assert checkpoints(stopped) == ["model_0000006.pth", "model_0000007.pth"]


def test_half_written_files_of_a_kill_go_away(stopped):
    (stopped / "model_0000004.pth.part").write_bytes(b"half")
    tiny_training(stopped).checkpointer.resume()
    assert not list(stopped.glob("*.part"))


def test_period_zero_saves_only_at_the_end(tmp_path):
    tiny_training(tmp_path, period=0).run(0, 5)
    assert checkpoints(tmp_path) == ["model_final.pth"]


def test_best_value_of_the_hooks_is_in_it(tmp_path):
    class Counter(CallAt):
        def __init__(self):
            super().__init__(-1)
            self.count = 0

        def before_step(self):
            self.count += 1

        def state_dict(self):
            return {"count": self.count}

        def load_state_dict(self, state):
            self.count = state["count"]

    with pytest.raises(Killed):
        tiny_training(tmp_path, extra_hooks=[Counter(), CallAt(4, after=kill)]).run(0, STEPS)
    counter = Counter()
    tiny_training(tmp_path, extra_hooks=[counter]).resume(STEPS)
    assert counter.count == STEPS


def test_messages_are_one_sentence(stopped):
    for name in NAMES:
        empty(stopped / name)
    with pytest.raises(ValueError, match="--resume") as caught:
        tiny_training(stopped).checkpointer.resume()
    assert not re.search(r"\n|\.$", str(caught.value))


def test_a_resume_with_other_classes_of_the_same_number_is_refused(tmp_path):
    tiny_training(tmp_path).run(0, 2)
    training = tiny_training(tmp_path)
    training.checkpointer._info = dataclasses.replace(
        training.checkpointer._info, class_names=("b", "a")
    )
    said = r"knows the classes a, b, the data has b, a;"
    with pytest.raises(ValueError, match=said):
        training.resume(4)
    # An evaluation would compare the one with the other, too.
    with pytest.raises(ValueError, match=said):
        load_newest_weights(training.model, tmp_path, class_names=["b", "a"])
    load_newest_weights(training.model, tmp_path, class_names=["a", "b"])
