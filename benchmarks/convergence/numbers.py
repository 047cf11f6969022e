"""What is read off curves: steps to an AP, AP at a time, spread over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .cost import time_of


@dataclass(frozen=True)
class Spread:
    """Mean of the seeds, and the lowest and highest of them."""

    mean: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(sum(values) / len(values), min(values), max(values), len(values))

    def __str__(self) -> str:
        if self.count == 1:
            return f"{self.mean:.1f}"
        return f"{self.mean:.1f} ({self.low:.1f} to {self.high:.1f})"

    def overlaps(self, other: "Spread") -> bool:
        """Whether one of either's seeds could be one of the other's."""
        return self.low <= other.high and other.low <= self.high


def steps_to_reach(curve: Sequence[Mapping], ap: float) -> float | None:
    """Steps until a training first had an AP, between evaluations by a straight line; none if it never had.

    Args:
        curve: points with "step" and "AP" by rising step; before the first step AP is 0.
        ap: in percent.
    """
    before_step, before_ap = 0, 0.0
    for point in curve:
        if point["AP"] >= ap:
            if point["AP"] == before_ap:
                return float(before_step)
            share = max(ap - before_ap, 0.0) / (point["AP"] - before_ap)
            return before_step + share * (point["step"] - before_step)
        before_step, before_ap = point["step"], point["AP"]
    return None


def ap_at_time(curve: Sequence[Mapping], seconds: float) -> float | None:
    """AP after so many seconds of training, by a straight line; none where the training ended before."""
    before_time, before_ap = 0.0, 0.0
    for point in curve:
        time = time_of(point)
        if time >= seconds:
            share = (seconds - before_time) / (time - before_time)
            return before_ap + share * (point["AP"] - before_ap)
        before_time, before_ap = time, point["AP"]
    return None


@dataclass(frozen=True)
class Speedup:
    """How many times the steps of the fast model the slow one needs for the fast one's AP at its end.

    Attributes:
        ratios: of each pair of runs; none where the slow one never arrives.
        longest: steps of the slow runs over steps of the fast ones, beyond which nothing is known.
    """

    ratios: tuple[float | None, ...]
    longest: float

    def __str__(self) -> str:
        if not self.ratios:
            return "–"
        known = [ratio for ratio in self.ratios if ratio is not None]
        if not known:
            return f"> {self.longest:g}x"
        low = f"{min(known):.1f}x"
        high = f"{max(known):.1f}x" if len(known) == len(self.ratios) else f"> {self.longest:g}x"
        return low if low == high else f"{low} to {high}"


def speedup(fast: Sequence[Mapping], slow: Sequence[Mapping]) -> Speedup:
    """Of records of runs: every fast one's last AP, looked for on every slow one's curve."""
    ratios = []
    for quick in fast:
        for long in slow:
            steps = steps_to_reach(long["curve"], quick["curve"][-1]["AP"])
            ratios.append(None if steps is None else steps / quick["run"]["steps"])
    longest = max((long["run"]["steps"] for long in slow), default=0) / max(
        (quick["run"]["steps"] for quick in fast), default=1
    )
    return Speedup(tuple(ratios), longest)
