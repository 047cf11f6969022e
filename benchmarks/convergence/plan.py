"""What the study is made of: its parts, their runs, and the order in which these are done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .rates import missing_factors
from .settings import SETTINGS, Setting
from .variants import VARIANTS

SWEEP = "sweep"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Runs that answer one question.

    Attributes:
        title: what is asked.
        setting: a name of ``SETTINGS``.
        variants: names of ``VARIANTS``.
        seeds: of the runs.
        length: of a run, as a multiple of the setting's steps.
        evaluations: of a run, where not the setting's.
        rate_factor: what the rate that the sweep has chosen is multiplied by.
        needs_gpu: whether it is left out where there is none.
    """

    title: str
    setting: str
    variants: tuple[str, ...]
    seeds: tuple[int, ...]
    length: float = 1.0
    evaluations: int | None = None
    rate_factor: float = 1.0
    needs_gpu: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        factor: what the experiment's learning rates are multiplied by.
    """

    part: str
    variant: str
    seed: int
    factor: float = 1.0

    @property
    def name(self) -> str:
        """Of its file."""
        rate = f"-x{self.factor:g}" if self.part == SWEEP else ""
        return f"{self.part}-{self.variant}{rate}-seed{self.seed}"

    @property
    def setting(self) -> Setting:
        return SETTINGS[PARTS[self.part].setting]

    @property
    def steps(self) -> int:
        length = SWEEP_LENGTHS.get(self.variant, 1.0) if self.part == SWEEP else 1.0
        return round(self.setting.steps * PARTS[self.part].length * length)

    @property
    def evaluations(self) -> int:
        return PARTS[self.part].evaluations or self.setting.evaluations

    def overrides(self) -> list[str]:
        """Of the experiment's fields, but for what differs from machine to machine; rates are not in it."""
        setting, variant = self.setting, VARIANTS[self.variant]
        test = setting.held_out if self.part == SWEEP else setting.test
        return [
            f"dataloader.train.dataset.names={setting.train}",
            f"dataloader.test.dataset.names={test}",
            f"dataloader.train.total_batch_size={setting.images}",
            f"train.max_iter={self.steps}",
            f"train.seed={self.seed}",
            f"train.evaluation.period={self.steps // self.evaluations}",
            *setting.overrides,
            *(setting.rcnn_overrides if variant.is_rcnn else setting.detr_overrides),
            *(setting.prior_overrides if variant.has_prior else ()),
            *variant.overrides,
        ]


MAIN = ("smca_single_scale", "detr", "smca", "faster_rcnn", "smca_plus", "deformable_detr")
TABLE2 = ("head_shared", "fixed", "single")
TABLE3 = (
    "2intra_multi_2intra",
    "smca_single_scale",
    "no_scale_selection",
    "3intra",
    "3multi",
    "5intra",
    "shared_ffn",
    "shared_sa",
    "no_share",
)

PARTS = {
    SWEEP: Part(
        title="learning rates, on a held-out split",
        setting="small",
        variants=MAIN,
        seeds=(100,),
        length=0.5,
        evaluations=1,
    ),
    "main": Part(title="who learns how fast", setting="small", variants=MAIN, seeds=(0, 1, 2)),
    "long_detr": Part(
        title="DETR with ten times the steps",
        setting="small",
        variants=("detr",),
        seeds=(0, 1, 2),
        length=10.0,
        evaluations=20,
    ),
    "table2": Part(title="the paper's table 2", setting="small", variants=TABLE2, seeds=(0, 1, 2)),
    "causes": Part(
        title="the paper's bandwidth as it is, and a backbone from scratch",
        setting="small",
        variants=("fixed_wide", "independent_wide", "scratch", "scratch_class_weight_10"),
        seeds=(0, 1),
    ),
    "table3": Part(title="the paper's table 3", setting="scales", variants=TABLE3, seeds=(0, 1)),
    "table3_rate": Part(
        title="full SMCA at 256 pixels with the single-scale model's rate",
        setting="scales",
        variants=("2intra_multi_2intra",),
        seeds=(0, 1),
        rate_factor=2.0,
    ),
    "table3_long": Part(
        title="three rows of table 3 with three times the steps",
        setting="scales",
        variants=("2intra_multi_2intra", "smca_single_scale", "3intra"),
        seeds=(0,),
        length=3.0,
        evaluations=6,
    ),
    "gpu": Part(
        title="ResNet-50, 384 pixels, up to 12 objects",
        setting="large",
        variants=MAIN,
        seeds=(0,),
        needs_gpu=True,
    ),
}

SWEEP_LENGTHS = {"detr": 2.0}
"""Of a sweep's runs, as multiples of the others': before, DETR has found nothing at any rate."""

_ORDER = (
    ("main", 0), ("table2", 0), ("long_detr", 0), ("causes", 0), ("main", 1), ("table2", 1), ("main", 2),
    ("table2", 2), ("table3", 0), ("causes", 1), ("table3", 1), ("table3_rate", 0), ("table3_long", 0),
    ("long_detr", 1), ("table3_rate", 1), ("long_detr", 2), ("gpu", 0),
)  # fmt: skip
"""Part and which of its seeds: what there is after any of them says as much as it can."""


def planned(parts: Sequence[str], variants: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """Runs in their order, but for those of sweeps; empty ``variants`` and ``seeds`` are all of them."""
    for part, index in _ORDER:
        seed = PARTS[part].seeds[index]
        if part not in parts or (seeds and seed not in seeds):
            continue
        for variant in PARTS[part].variants:
            if not variants or variant in variants:
                yield Run(part=part, variant=variant, seed=seed)


def sweep_runs(variant: str, results: Mapping[str, dict]) -> tuple[list[Run], float | None]:
    """What is left of a variant's sweep, and, where nothing is, the factor that was best.

    Args:
        variant: one with a sweep of its own.
        results: of finished runs, by name.
    """
    (seed,) = PARTS[SWEEP].seeds
    found = {
        result["run"]["factor"]: result["curve"][-1]["AP"]
        for result in results.values()
        if (result["run"]["part"], result["run"]["variant"]) == (SWEEP, variant)
    }
    missing, chosen = missing_factors(found)
    runs = [Run(part=SWEEP, variant=variant, seed=seed, factor=factor) for factor in missing]
    return runs, chosen


def swept_variant(variant: str) -> str:
    """Whose sweep decides on a variant's learning rate."""
    return VARIANTS[variant].rate_of or variant
