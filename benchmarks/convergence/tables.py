"""The study's tables in Markdown. The paper's numbers have columns of their own, which say so."""

from collections.abc import Mapping, Sequence

from smca.analysis.paper import PAPER

from .cost import time_of
from .numbers import Spread, ap_at_time, speedup, steps_to_reach
from .plan import MAIN, PARTS, TABLE2
from .variants import VARIANTS

MISSING = "–"
_ON_THE_WAY = {"long_detr": (0.1, 0.2, 0.5, 1.0), "table3_long": (1 / 3, 2 / 3, 1.0)}
_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def select(results: Mapping[str, Mapping], part: str) -> dict[str, list[Mapping]]:
    """Records of a part by variant, in the plan's order, seeds by their number; variants without any are left out."""
    found = {
        variant: sorted(
            (
                record
                for record in results.values()
                if (record["run"]["part"], record["run"]["variant"]) == (part, variant)
            ),
            key=lambda record: record["run"]["seed"],
        )
        for variant in PARTS[part].variants
    }
    return {variant: records for variant, records in found.items() if records}


def spread(records: Sequence[Mapping], metric: str) -> Spread | None:
    """Of the last evaluations; none where there is nothing to measure it on."""
    values = [record["curve"][-1][metric] for record in records]
    return None if not values or None in values else Spread.of(values)


def main_table(results: Mapping[str, Mapping], part: str = "main") -> str:
    """Every main variant at the end of its runs."""
    rows = []
    for variant, records in select(results, part).items():
        seconds = Spread.of([time_of(record["curve"][-1]) for record in records])
        rate = records[-1]["config"]["lr"]
        rows.append(
            [
                VARIANTS[variant].title,
                str(len(records)),
                *(_cell(spread(records, metric)) for metric in _METRICS),
                f"{seconds.mean:.0f}",
                f"{rate:.1g}",
                _paper(variant, "ap"),
            ]
        )
    header = ["model", "seeds", *_METRICS, "training, s", "rate", "paper: AP on COCO"]
    return _markdown(header, rows)


def speed_table(results: Mapping[str, Mapping]) -> str:
    """Table 1's claim: how much longer DETR takes."""
    fast = select(results, "main").get("smca_single_scale", [])
    slow = select(results, "long_detr").get("detr", [])
    rows = []
    for record in fast:
        target = record["curve"][-1]["AP"]
        steps = [steps_to_reach(long["curve"], target) for long in slow]
        rows.append(
            [
                str(record["run"]["seed"]),
                f"{target:.1f}",
                str(record["run"]["steps"]),
                ", ".join("never" if s is None else f"{s:.0f}" for s in steps) or MISSING,
                str(speedup([record], slow)),
                "10x",
            ]
        )
    header = [
        "seed", "AP of SMCA single-scale", "its steps", "DETR's steps to that AP", "ratio", "paper: ratio",
    ]  # fmt: skip
    return _markdown(header, rows)


def long_table(results: Mapping[str, Mapping], part: str = "long_detr") -> str:
    """Long runs on their way, at shares of their length."""
    rows = []
    for variant, records in select(results, part).items():
        for record in records:
            steps = record["run"]["steps"]
            for share in _ON_THE_WAY[part]:
                points = [p for p in record["curve"] if p["step"] <= share * steps + 0.5]
                if points:
                    point = points[-1]
                    values = (_cell(_value(point[metric])) for metric in _METRICS)
                    row = [VARIANTS[variant].title, str(record["run"]["seed"]), str(point["step"])]
                    rows.append([*row, *values])
    return _markdown(["model", "seed", "step", *_METRICS], rows)


def ablation_table(results: Mapping[str, Mapping], part: str) -> str:
    """Table 2 or 3: AP of every row, what it is more than the first one, and the same from the paper."""
    found = select(results, part)
    order = PARTS[part].variants
    if part == "table2":
        main = select(results, "main")
        found |= {name: main[name] for name in ("detr", "smca_single_scale") if name in main}
        order = ("detr", *TABLE2, "smca_single_scale")
    rows = []
    for variant in order:
        records = found.get(variant, [])
        title = VARIANTS[variant].title
        if part == "table2" and variant == "smca_single_scale":
            title = "independent"
        rows.append(
            [
                title,
                str(len(records)),
                *(_cell(spread(records, metric)) for metric in _METRICS),
                *(_paper(variant, key) for key in ("ap", "ap50", "ap75")),
            ]
        )
    header = ["row", "seeds", *_METRICS, "paper: AP", "paper: AP50", "paper: AP75"]
    return _markdown(header, rows)


def order_lines(results: Mapping[str, Mapping], part: str) -> list[str]:
    """Pairs of neighbours in the paper's order of table 2 or 3 that come out the other way round beyond the spread."""
    found = select(results, part)
    if part == "table2":
        found |= {
            k: v for k, v in select(results, "main").items() if k in ("detr", "smca_single_scale")
        }
    known = {
        name: (PAPER[VARIANTS[name].paper].ap, spread(records, "AP"), len(records))
        for name, records in found.items()
        if VARIANTS[name].paper
    }
    lines = []
    names = sorted(known, key=lambda name: known[name][0])
    for index, low in enumerate(names):
        for high in names[index + 1 :]:
            if known[low][0] == known[high][0]:
                continue
            ours_low, ours_high = known[low][1], known[high][1]
            if ours_low.mean <= ours_high.mean or ours_low.overlaps(ours_high):
                continue
            one = " (one seed)" if min(known[low][2], known[high][2]) == 1 else ""
            lines.append(
                f"{VARIANTS[low].title} is above {VARIANTS[high].title} here, {ours_low} and {ours_high}{one}; "
                f"paper: {known[low][0]} and {known[high][0]}"
            )
    return lines


def equal_time_table(results: Mapping[str, Mapping]) -> str:
    """Each model's AP after the training time of the one that takes the shortest, on its own schedule."""
    wanted = ("smca", "smca_plus", "faster_rcnn", "deformable_detr")
    found = {k: v for k, v in select(results, "main").items() if k in wanted}
    if not found:
        return _markdown(["model"], [])
    seconds = min(time_of(r["curve"][-1]) for records in found.values() for r in records)
    rows = []
    for variant, records in found.items():
        values = [ap_at_time(record["curve"], seconds) for record in records]
        rows.append(
            [
                VARIANTS[variant].title,
                *(_cell(spread(records, metric)) for metric in ("AP", "APs", "APm")),
                _cell(Spread.of(values)),
            ]
        )
    header = ["model", "AP at equal steps", "APs", "APm", f"AP after {seconds:.0f} s of training"]
    return _markdown(header, rows)


def rates_table(results: Mapping[str, Mapping]) -> str:
    """The sweeps: AP on the held-out split by factor on the experiment's rates."""
    runs = [record for record in results.values() if record["run"]["part"] == "sweep"]
    factors = sorted({record["run"]["factor"] for record in runs})
    rows = []
    for variant in MAIN:
        mine = {r["run"]["factor"]: r for r in runs if r["run"]["variant"] == variant}
        if not mine:
            continue
        best = max(sorted(mine), key=lambda factor: mine[factor]["curve"][-1]["AP"])
        cells = [
            MISSING if factor not in mine else _emphasis(_ended(mine[factor]), factor == best)
            for factor in factors
        ]
        steps = next(iter(mine.values()))["run"]["steps"]
        rows.append([VARIANTS[variant].title, str(steps), *cells])
    return _markdown(["model", "steps", *(f"x{factor:g}" for factor in factors)], rows)


def state_table(results: Mapping[str, Mapping]) -> str:
    """What has run and what has not."""
    rows = []
    for name, part in PARTS.items():
        records = [record for record in results.values() if record["run"]["part"] == name]
        planned = len(part.variants) * len(part.seeds)
        wanted = "3 or more a model" if name == "sweep" else str(planned)
        missing = ", ".join(
            VARIANTS[variant].title
            for variant in part.variants
            if variant not in select(results, name)
        )
        rows.append([name, part.title, str(len(records)), wanted, missing or MISSING])
    return _markdown(["part", "", "finished runs", "planned", "without any run"], rows)


def _ended(record: Mapping) -> str:
    return "diverged" if "diverged" in record else f"{record['curve'][-1]['AP']:.1f}"


def _emphasis(text: str, on: bool) -> str:
    return f"**{text}**" if on else text


def _paper(variant: str, key: str) -> str:
    name = VARIANTS[variant].paper
    value = getattr(PAPER[name], key) if name else None
    return MISSING if value is None else f"{value:.1f}"


def _value(value: float | None) -> Spread | None:
    return None if value is None else Spread.of([value])


def _cell(value: Spread | None) -> str:
    return MISSING if value is None else str(value)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "Not run yet."
    align = [":---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, align, *rows))
