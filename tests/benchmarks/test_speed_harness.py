import json

import pytest
import torch
from co_attention_speed import FORMS, OURS, PLAIN, WITH_DROPOUT, WITHOUT, outputs
from speed_harness import attention_kernels, compare, store


def drawn(dtype=torch.float64):
    shapes = [(2, 2, 5, 32), (2, 5, 2, 2), (2, 5, 2, 2), (2, 2, 12, 32), (2, 2, 12, 32)]
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("form", sorted({*FORMS} - {OURS, WITHOUT, *WITH_DROPOUT}))
def test_forms_of_attention_that_are_compared_compute_the_same(form):
    inputs = drawn()
    expected = outputs(OURS, [(3, 4)], inputs)
    result = outputs(form, [(3, 4)], inputs)

    torch.testing.assert_close(result, expected)
    gradients = (torch.autograd.grad(x.square().sum(), inputs) for x in (result, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_ratios_are_of_the_same_round():
    calls = {"a": lambda: sum(range(20_000)), "b": lambda: sum(range(200_000))}

    report = compare(calls, baseline="b", rounds=3, clock="process")

    assert report["b"]["ratio"] == 1
    assert report["a"]["ratio_low"] <= report["a"]["ratio"] <= report["a"]["ratio_high"] < 0.5


def test_kernel_is_named_where_one_ran():
    inputs = drawn(torch.float32)

    fused = attention_kernels(lambda: outputs(WITHOUT, [(3, 4)], inputs))
    assert any("flash" in name for name in fused)
    assert attention_kernels(lambda: outputs(PLAIN, [(3, 4)], inputs)) == []


def test_report_says_machine_and_settings(tmp_path):
    store(tmp_path / "a.json", {"x": 1}, rounds=3)

    report = json.loads((tmp_path / "a.json").read_text())
    assert report["rounds"] == 3
    assert report["x"] == 1
    assert "threads" in report["machine"]
