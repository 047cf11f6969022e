import sys
from pathlib import Path

import pytest

# The study is a benchmark and no part of the package.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


def record(part: str, variant: str, seed: int, *, aps, steps=100, factor=1.0, seconds=10.0) -> dict:
    """Of a made-up run, whose evaluations are evenly spread, APs of small objects half of all."""
    count = len(aps)
    curve = [
        {
            "step": steps * (i + 1) // count,
            "seconds": 2 * seconds * (i + 1) / count,
            "cpu_seconds": seconds * (i + 1) / count,
            **dict.fromkeys(("AP", "AP50", "AP75", "APm", "AR100"), ap),
            "APs": ap / 2,
            "APl": None,
        }
        for i, ap in enumerate(aps)
    ]
    return {
        "run": {
            "part": part, "variant": variant, "seed": seed, "factor": factor,
            "steps": steps, "images": 8,
        },
        "config": {"experiment": "digits/detr", "overrides": [], "lr": 4e-4, "backbone_lr": 1e-3},
        "machine": "a machine",
        "threads": 1,
        "versions": {"torch": "2"},
        "commit": "abc",
        "changed": False,
        "curve": curve,
    }  # fmt: skip


@pytest.fixture
def make_record():
    return record
