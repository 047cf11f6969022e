"""A sweep of learning rates that goes on until its best one is not at the edge."""

from collections.abc import Mapping

FIRST = (0.5, 1.0, 2.0)
"""Factors on an experiment's rates."""
LIMITS = (1 / 16, 16.0)
"""A sweep ends here, with its best at the edge."""


def missing_factors(found: Mapping[float, float]) -> tuple[list[float], float | None]:
    """What a sweep still needs.

    Args:
        found: AP by factor, of finished runs.

    Returns:
        Factors to run next, and where there are none the best factor, the smallest of equal ones.
    """
    missing = [factor for factor in FIRST if factor not in found]
    if missing:
        return missing, None
    best = max(sorted(found), key=lambda factor: found[factor])
    if best == min(found) and best > LIMITS[0]:
        return [best / 2], None
    if best == max(found) and best < LIMITS[1]:
        return [best * 2], None
    return [], best
