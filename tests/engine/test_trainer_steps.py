"""What a step is over several forward passes, when it is left out, and how a training ends."""

import copy
import json
import logging
import math
import random
import re

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase, hooks
from detectron2.utils.events import JSONWriter
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.builders import small_model, training_input
from helpers.tiny_training import CallAt, TinyModel, assert_same, augment, tiny_training
from smca.engine import MixedPrecision, NonFiniteError, Trainer, WeightAverage
from smca.engine.trainer import StepError
from smca.errors import InputError

# Objects per image: an image without any, and unequal halves of the batch.
COUNTS = [3, 0, 1, 5]


class Mean(nn.Module):
    """Its loss is a mean over the batch, so equal parts weigh the same; it knows nothing of boxes."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))

    def forward(self, batch):
        x = torch.tensor([item["scale"] for item in batch], dtype=torch.float64)
        return {
            "loss_a": (self.weight.sum() * x).square().mean(),
            "loss_b": (self.weight[0] - x).square().mean(),
        }


class Faulty(nn.Module):
    """Its images say what goes wrong; it has running statistics and a bias after them."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.out = nn.Linear(1, 1)

    def forward(self, batch):
        values = torch.tensor([[float(item["scale"])] for item in batch])
        y = self.out(self.norm(values))
        loss = y.square().mean()
        if any(item.get("bad_gradient") for item in batch):
            loss = loss + (self.out.bias - self.out.bias.detach()).sqrt().sum()
        return {"loss": loss}


class Names(HookBase):
    """Which iterations had their hooks called."""

    def __init__(self):
        self.seen = []

    def after_step(self):
        self.seen.append(self.trainer.iter)


def one_per_iteration(records):
    """A loader that gives iteration i all of ``records[i]``, in order."""

    class InOrder:
        total_batch_size = max(1, len(records[0]))
        start_iteration = 0

        def __iter__(self):
            yield from ([dict(r) for r in batch] for batch in records[self.start_iteration :])

        def close(self):
            pass

    return InOrder()


def make_trainer(model, records, **options):
    optimizer = options.pop("optimizer", torch.optim.SGD)
    return Trainer(
        model=model,
        loader=one_per_iteration(records),
        optimizer=optimizer([p for p in model.parameters() if p.requires_grad], lr=0.01),
        **options,
    )


def good(number=1.0):
    return [{"scale": number + i, "file_name": f"{number}-{i}.jpg"} for i in range(2)]


def bad(kind=math.nan):
    record = {"scale": 1.0, "bad_gradient": True} if kind == "gradient" else {"scale": kind}
    return [record | {"file_name": "bad.jpg"}, {"scale": 2.0, "file_name": "fine.jpg"}]


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("steps", [2, 4])
def test_accumulation_equals_one_large_batch(steps):
    records = [good() + good(5.0)] * 3
    whole, parts = (make_trainer(Mean(), records, accumulate_steps=n) for n in (1, steps))
    for trainer in (whole, parts):
        trainer.train(0, 3)
    torch.testing.assert_close(parts.model.weight, whole.model.weight, rtol=1e-12, atol=0)
    for name, (value, _) in whole.storage.latest().items():
        if name != "data_time":
            assert parts.storage.latest()[name][0] == pytest.approx(value, rel=1e-6)


class _Asked(TorchDispatchMode):
    """Operators for which a host waits for its GPU: they give a number, or a size depends on what they give."""

    waits = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in self.waits or by_mask:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["smca", "detr"])
def test_a_step_waits_for_its_device_twice(name, monkeypatch):
    """For the matcher's costs, of all layers and images, and for whether its gradients may be used."""
    waits = []
    for method in ("tolist", "cpu", "numpy"):
        original = getattr(torch.Tensor, method)

        def counted(tensor, *args, method=method, original=original, **options):
            waits.append(method)
            return original(tensor, *args, **options)

        monkeypatch.setattr(torch.Tensor, method, counted)
    trainer = make_trainer(small_model(name), [detector_batch([2, 0])] * 2, clip_grad_norm=0.1)
    with _Asked() as asked:
        trainer.train(0, 1)
    # Detectron2 pads a batch by numbers that are on the host.
    assert asked.names == ["_local_scalar_dense"] * 2
    assert sorted(waits) == ["cpu", "numpy", "tolist"]


def detector_batch(counts):
    batch = [training_input(64, 96, count, seed=seed) for seed, count in enumerate(counts)]
    for seed, item in enumerate(batch):
        item["file_name"] = f"photo{seed}.jpg"
    return batch


@pytest.mark.parametrize("counts", [COUNTS, [0, 0, 0, 0]])
@pytest.mark.parametrize("name", ["smca_single_scale", "smca", "deformable_detr_two_stage"])
def test_accumulated_gradients_of_a_detector(name, counts):
    batch = detector_batch(counts)
    initial = small_model(name, norm="FrozenBN").double()
    found, losses = {}, {}
    for parts in (1, 2, 4):
        model = copy.deepcopy(initial)
        trainer = make_trainer(model, [batch], accumulate_steps=parts)
        trainer.train(0, 1)
        found[parts] = gradients(model)
        latest = trainer.storage.latest().items()
        losses[parts] = {k: v for k, (v, _) in latest if k != "data_time"}
    assert len(found[1]) > 50
    for parts in (2, 4):
        assert losses[parts] == pytest.approx(losses[1], rel=1e-5)
        assert found[parts].keys() == found[1].keys()
        for key, gradient in found[1].items():
            torch.testing.assert_close(
                found[parts][key], gradient, rtol=1e-7, atol=1e-12, msg=f"{parts} {key}"
            )


@pytest.mark.parametrize("steps", [0, 3, 5])
def test_parts_that_are_not_equal(steps):
    with pytest.raises(ValueError, match=f"accumulate_steps {steps}|times {steps} forward passes"):
        make_trainer(Mean(), [good() + good()], accumulate_steps=steps)


def draws_of(start, stop, *, seed=5, accumulate_steps=2):
    """What the generators give in every forward pass, by iteration."""
    found = {}

    class Drawing(Mean):
        def forward(self, batch):
            drawn = (random.random(), float(np.random.rand()), torch.rand(()).item())
            found.setdefault(trainer.iter, []).append(drawn)
            return super().forward(batch)

    trainer = make_trainer(Drawing(), [good()] * stop, accumulate_steps=accumulate_steps, seed=seed)
    trainer.train(start, stop)
    return found


def test_random_numbers_follow_from_seed_and_iteration():
    whole = draws_of(0, 5)
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(99)
    resumed = draws_of(3, 5)
    assert resumed == {i: whole[i] for i in (3, 4)}
    # Every pass of every iteration has its own, from each generator.
    for column in range(3):
        drawn = [d[column] for passes in whole.values() for d in passes]
        assert len(set(drawn)) == len(drawn) == 10
    assert not set(draws_of(0, 5, seed=6)[0]) & set(whole[0])


def test_dropout_after_a_resume_through_the_state(tmp_path):
    whole = tiny_training(tmp_path / "a", period=0) if (tmp_path / "a").mkdir() is None else None
    whole.run(0, 6)
    (tmp_path / "b").mkdir()
    first = tiny_training(tmp_path / "b", period=0)
    first.trainer.register_hooks(
        [CallAt(3, after=lambda: (_ for _ in ()).throw(KeyboardInterrupt))]
    )
    with pytest.raises(KeyboardInterrupt):
        first.run(0, 6)
    second = tiny_training(tmp_path / "b", period=0)
    second.model.load_state_dict(first.model.state_dict())
    second.average.load_state_dict(first.average.state_dict())
    second.trainer.load_state_dict(copy.deepcopy(first.trainer.state_dict()))
    second.run(4, 6)
    assert_same(second.everything(), whole.everything())


@pytest.mark.parametrize("kind", [math.nan, math.inf, "gradient"])
def test_a_step_that_is_left_out_changes_nothing(kind):
    model = Faulty()
    average = WeightAverage(model, decay=0.5)
    names = Names()
    trainer = make_trainer(
        model,
        [good(), bad(kind), good(3.0)],
        skip_nonfinite=1,
        average=average,
        optimizer=torch.optim.AdamW,
    )
    states = []

    def state():
        parts = (model.state_dict(), average.state_dict(), trainer.optimizer.state_dict())
        states.append(copy.deepcopy(parts))

    trainer.register_hooks([names, CallAt(0, after=state), CallAt(1, after=state)])
    trainer.train(0, 3)
    before, after = states
    assert_same(after[0], before[0])
    assert_same(after[1]["model"], before[1]["model"])
    assert after[1]["updates"] == before[1]["updates"] == 1
    for index, moments in before[2]["state"].items():
        assert_same(after[2]["state"][index], moments)
    # All the rest goes on.
    assert names.seen == [0, 1, 2]
    assert not torch.equal(model.out.weight, before[0]["out.weight"])
    assert average.state_dict()["updates"] == 2
    assert trainer.storage.history("skipped_steps").values() == [(1, 1)]


def test_the_learning_rate_goes_on_over_a_step_that_is_left_out():
    trainer = make_trainer(Faulty(), [good(), bad(), good()], skip_nonfinite=1)
    scheduler = torch.optim.lr_scheduler.StepLR(trainer.optimizer, 1, gamma=0.5)
    schedule = hooks.LRScheduler(optimizer=trainer.optimizer, scheduler=scheduler)
    trainer.register_hooks([schedule])
    trainer.train(0, 3)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 / 8)


def test_as_many_in_a_row_as_are_tolerated():
    batches = [good(), bad(), bad(), good(), bad("gradient"), bad(), good()]
    trainer = make_trainer(Faulty(), batches, skip_nonfinite=2)
    trainer.train(0, len(batches))
    assert [v for v, _ in trainer.storage.history("skipped_steps").values()] == [1, 2, 1, 2]


def test_one_more_in_a_row_stops(caplog):
    batches = [good(), bad(), bad(), bad(), good()]
    model = Faulty()
    trainer = make_trainer(model, batches, skip_nonfinite=2)
    with pytest.raises(NonFiniteError, match=r"^iteration 3: .*3 steps in a row"):
        trainer.train(0, len(batches))
    assert all(p.isfinite().all() for p in model.state_dict().values())
    assert [r.getMessage()[:23] for r in caplog.records if "left out" in r.getMessage()] == [
        "Step left out, 1 in a r",
        "Step left out, 2 in a r",
    ]


def test_skips_in_a_row_survive_a_resume():
    batches = [good(), bad(), bad()]
    first = make_trainer(Faulty(), batches, skip_nonfinite=1)
    first.train(0, 2)
    second = make_trainer(Faulty(), batches, skip_nonfinite=1)
    second.load_state_dict(first.state_dict())
    with pytest.raises(NonFiniteError, match="2 steps in a row"):
        second.train(2, 3)


def test_a_bad_second_pass_takes_the_first_ones_gradients_along():
    model = Mean()
    trainer = make_trainer(
        model, [[{"scale": 1.0}, {"scale": math.nan}]], accumulate_steps=2, skip_nonfinite=1
    )
    before = model.weight.detach().clone()
    trainer.train(0, 1)
    assert torch.equal(model.weight.detach(), before)
    assert model.weight.grad is None


def detector(**options):
    return small_model("smca_single_scale", norm="FrozenBN", **options)


def stop_message(model, objects=2, **options):
    batch = detector_batch([objects, objects])
    with pytest.raises(NonFiniteError) as caught:
        make_trainer(model, [batch] * 4, **options).train(3, 4)
    message = str(caught.value)
    assert message.startswith("iteration 3: ")
    assert "photo0.jpg, photo1.jpg" in message
    assert "\n" not in message
    return message


def test_a_bad_cost_matrix_names_layer_and_parameter():
    model = detector()
    with torch.no_grad():
        model.decoder.layers[1].ffn.get_parameter(
            next(n for n, _ in model.decoder.layers[1].ffn.named_parameters())
        )[0] = math.nan
    message = stop_message(model)
    assert "matching cost of image 0 of the batch is not finite in decoder layer 1" in message
    assert "the first bad tensor is the parameter decoder.layers.1.ffn." in message


def test_a_bad_output_is_named_by_its_innermost_module():
    model = detector()

    def overflow(_module, _inputs, output):
        return output * math.inf

    model.encoder.blocks[1].norm1.register_forward_hook(overflow)
    message = stop_message(model)
    assert "the first bad tensor is the output of encoder.blocks.1.norm1" in message


def test_a_bad_loss_without_objects_has_no_cost_matrix():
    model = detector()
    model.heads.classifier.register_forward_hook(lambda *args: args[-1] * math.nan)
    message = stop_message(model, objects=0)
    assert "loss_ce is nan" in message or "loss_ce_0 is nan" in message
    assert "the output of heads.classifier" in message


def test_a_loss_that_is_bad_by_itself():
    model = detector()
    criterion = model.criterion
    model.criterion = lambda *args: criterion(*args) | {"loss_bbox": torch.tensor(math.inf)}
    message = stop_message(model)
    assert "loss_bbox is inf" in message
    assert "every layer's output is finite, so it is the loss itself" in message


@pytest.mark.parametrize("clip", [0.0, 0.1])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_gradient_is_named(value, clip):
    model = detector()
    parameter = model.encoder.blocks[0].norm1.weight
    parameter.register_hook(lambda gradient: gradient * value)
    before = copy.deepcopy(model.state_dict())
    message = stop_message(model, clip_grad_norm=clip)
    assert "the gradient norm is " in message
    # Not another one, which clipping would have made NaN as well.
    assert "the first bad tensor is the gradient of encoder.blocks.0.norm1.weight" in message
    assert_same(model.state_dict(), before)


def test_gradients_whose_norm_overflows():
    model = Mean().float()
    model.weight.register_hook(lambda gradient: torch.full_like(gradient, 3e38))
    with pytest.raises(NonFiniteError, match="every gradient is finite, but the norm of all"):
        make_trainer(model, [good()]).train(0, 1)


def float16_trainer(model, records, **options):
    return make_trainer(
        model, records, precision=MixedPrecision(device_type="cpu", dtype="float16"), **options
    )


class Steep(nn.Module):
    """Its gradient overflows float16 unless the loss scale is below 2 ** 14."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.linear.weight)

    def forward(self, batch):
        return {"loss": (4 * self.linear(torch.ones(1, 1))).float().sum()}


def test_float16_finds_its_loss_scale():
    model = Steep()
    trainer = float16_trainer(model, [good()] * 6, skip_nonfinite=6)
    scales = []
    for i in range(6):
        trainer.register_hooks([CallAt(i, after=lambda: scales.append(scale(trainer)))])
    trainer.train(0, 6)
    start = 2**16
    assert scales == [start / 2, start / 4, start / 8, start / 8, start / 8, start / 8]
    # Three steps with the true gradient, 4, whatever the scale.
    assert model.linear.weight.item() == pytest.approx(1 - 3 * 0.01 * 4, rel=1e-3)


def scale(trainer):
    return trainer.state_dict()["precision"]["scale"]


def test_the_loss_scale_survives_a_resume():
    first = float16_trainer(Steep(), [good()] * 6, skip_nonfinite=6)
    first.train(0, 2)
    second = float16_trainer(Steep(), [good()] * 6, skip_nonfinite=6)
    second.load_state_dict(first.state_dict())
    assert scale(second) == 2**14
    # A checkpoint of a float32 training starts with the usual one.
    third = float16_trainer(Steep(), [good()])
    third.load_state_dict(make_trainer(Steep(), [good()]).state_dict() | {"iteration": 1})
    assert scale(third) == 2**16


def test_a_loss_that_is_not_finite_leaves_the_scale_alone():
    trainer = float16_trainer(Faulty(), [good(), bad(), good()], skip_nonfinite=3)
    scales = []
    for call in (
        CallAt(1, before=lambda: scales.append(scale(trainer))),
        CallAt(1, after=lambda: scales.append(scale(trainer))),
    ):
        trainer.register_hooks([call])
    trainer.train(0, 3)
    assert scales[0] == scales[1]


def test_hooks_of_detectron2(tmp_path):
    class Custom(HookBase):
        def __init__(self):
            self.calls = []

        def before_train(self):
            self.calls.append("before_train")

        def before_step(self):
            self.calls.append("before_step")

        def after_step(self):
            self.trainer.storage.put_scalar("mine", 7.0)
            self.calls.append("after_step")

        def after_train(self):
            self.calls.append("after_train")

    custom = Custom()
    file = tmp_path / "metrics.json"
    trainer = make_trainer(Faulty(), [good()] * 4)
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            custom,
            hooks.EvalHook(2, lambda: {"bbox": {"AP": float(trainer.iter)}}),
            hooks.PeriodicWriter([JSONWriter(str(file))], period=2),
        ]
    )
    trainer.train(0, 4)
    assert custom.calls == ["before_train", *["before_step", "after_step"] * 4, "after_train"]
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["iteration"] for line in lines][:2] == [1, 3]
    assert lines[0]["mine"] == 7.0
    assert lines[0]["bbox/AP"] == 1.0
    assert {"total_loss", "grad_norm", "data_time"} <= lines[0].keys()


def failing(where):
    def fail(_hook):
        raise OSError(28, "No space left on device")

    return type("Failing", (HookBase,), {where: fail})()


@pytest.mark.parametrize("where", ["before_train", "after_step"])
def test_an_error_of_a_hook_that_writes_ends_without_a_traceback(where, caplog):
    trainer = make_trainer(Faulty(), [good()] * 3)
    trainer.register_hooks([failing(where)])
    with pytest.raises(OSError, match="No space left on device"):
        trainer.train(0, 3)
    assert "Exception during training" not in caplog.text


def test_a_finished_training_whose_last_lines_cannot_be_written_says_so():
    trainer = make_trainer(Faulty(), [good()] * 3)
    trainer.register_hooks([failing("after_train")])
    with pytest.raises(OSError, match="No space left"):
        trainer.train(0, 3)


def test_last_lines_after_an_error_do_not_hide_it(caplog):
    trainer = make_trainer(Faulty(), [bad()])
    trainer.register_hooks([failing("after_train")])
    with pytest.raises(NonFiniteError):
        trainer.train(0, 3)
    assert "The last metrics could not be written: [Errno 28] No space left" in caplog.text


def test_a_stop_for_a_bad_loss_has_no_traceback(caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(NonFiniteError):
        make_trainer(Faulty(), [bad()]).train(0, 1)
    assert "Exception during training" not in caplog.text


def test_a_mistake_keeps_its_traceback(caplog):
    class Broken(Mean):
        def forward(self, batch):
            raise TypeError("a bug")

    with pytest.raises(TypeError, match="a bug"):
        make_trainer(Broken(), [good()]).train(0, 1)
    assert "Exception during training" in caplog.text


def test_loading_processes_end_with_the_training(tmp_path):
    training = tiny_training(tmp_path, num_workers=2, period=0)
    workers = []

    def note():
        workers.extend(training.trainer._batches._workers)

    training.trainer.register_hooks([CallAt(0, before=note)])
    training.run(0, 3)
    assert len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)


def test_loading_processes_change_nothing(tmp_path):
    results = [tiny_training(tmp_path, num_workers=n, period=0).run(0, 4) for n in (0, 2)]
    assert_same(results[1].everything(), results[0].everything())


class _FullMemory(TinyModel):
    """Runs out of memory in one iteration."""

    def forward(self, batch):
        if self.trainer.iter == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")
        return super().forward(batch)


def test_what_was_trained_before_an_error_is_saved_and_the_images_are_named(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = tiny_training(tmp_path / "whole", period=0, accumulate_steps=1).run(0, 6)
    training = tiny_training(tmp_path, period=0, accumulate_steps=1, model=_FullMemory())
    training.model.trainer = training.trainer
    with pytest.raises(StepError, match=r"iteration 3 \(images \d.jpg, .*out of memory .*--resume"):
        training.run(0, 6)
    # As if it had been killed after the step before.
    resumed = tiny_training(tmp_path, period=0, accumulate_steps=1).resume(6)
    assert torch.load(tmp_path / "model_0000002.pth", weights_only=True)["iteration"] == 2
    assert_same(resumed.everything(), whole.everything())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_batch_that_cannot_be_loaded_says_why(tmp_path, num_workers):
    training = failing_at_one_image(tmp_path, InputError("x.jpg: it is cut off"), num_workers)
    with pytest.raises(
        StepError, match=r"iteration \d .* cannot be done: x.jpg: it is cut off; what"
    ):
        training.run(0, 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bug_of_a_mapper_keeps_its_traceback(tmp_path, num_workers, caplog):
    training = failing_at_one_image(tmp_path, ValueError("not enough to unpack"), num_workers)
    with pytest.raises(ValueError, match="not enough to unpack") as caught:
        training.run(0, 3)
    assert not isinstance(caught.value, StepError)
    assert "Exception during training" in caplog.text
    assert "in load" in caplog.text
    assert re.match(r"in iteration \d \(its images\)", caught.value.__notes__[0])


def failing_at_one_image(folder, error, num_workers):
    def load(record):
        if record["file_name"] == "3.jpg":
            raise error
        return augment(record)

    training = tiny_training(folder, num_workers=num_workers, period=0)
    training.trainer.loader._source.mapper = load
    return training


def test_an_error_between_step_and_schedule_saves_nothing_half(tmp_path):
    """The schedule would stay a step behind for ever."""

    class Fails(HookBase):
        def after_step(self):
            raise TypeError("a bug")

    training = tiny_training(tmp_path, period=0)
    training.trainer._hooks.insert(0, Fails())
    training.trainer._hooks[0].trainer = training.trainer
    with pytest.raises(TypeError, match="a bug"):
        training.run(0, 3)
    assert not list(tmp_path.glob("*.pth"))


def test_averages_follow_the_step(tmp_path):
    """Updated before the optimiser, they would lag a step behind."""
    training = tiny_training(tmp_path, period=0)
    start = training.model.out.weight.detach().clone()
    training.run(0, 1)
    now = training.model.out.weight.detach()
    assert not torch.equal(now, start)
    # The first decay is 2 / 11.
    expected = start + (now - start) * 9 / 11
    torch.testing.assert_close(training.average.model.out.weight, expected)
