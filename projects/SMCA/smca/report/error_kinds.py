"""What is wrong with wrong detections, by kind, and what each kind costs.

The kinds and their thresholds are those of TIDE (Bolya, Foley, Hays, Hoffman: "TIDE: A General Toolbox for Identifying
Object Detection Errors", ECCV 2020, section 2), at a foreground IoU of 0.5 and a background IoU of 0.1. A false
detection is of the first kind in this order that its overlaps allow:

- **box**: it overlaps an object of its class by 0.1 to 0.5;
- **class**: it overlaps one of another class by 0.5 or more;
- **duplicate**: it overlaps one of its class by 0.5 or more, which a better detection has found;
- **background**: it overlaps none by more than 0.1;
- **both**: what is left, class and box are wrong.

An object is **missed** if no detection found it and none has a wrong class or a wrong box on it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .matching import IOU_THRESHOLD, NONE, Matches, average_precision

BACKGROUND_IOU = 0.1
KINDS = ("class", "box", "both", "duplicate", "background", "missed")
CLASS, BOX, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))


@dataclasses.dataclass(frozen=True, eq=False)
class ErrorKinds:
    """The errors of N detections on M objects.

    Attributes:
        matches: of which they are the errors.
        kinds: (N,) index into ``KINDS``, ``NONE`` for what is right or ignored.
        target: (N,) the object on which a detection has a wrong class or a wrong box, else ``NONE``.
    """

    matches: Matches
    kinds: np.ndarray
    target: np.ndarray

    def missed(self, shown: np.ndarray) -> np.ndarray:
        """(M,) bool: objects that the detections of a mask (N,) neither find nor nearly find."""
        missed = self.matches.missed(shown)
        nearly = self.target[shown]
        missed[nearly[nearly != NONE]] = False
        return missed

    def counts(self, threshold: float = 0.0) -> dict[str, int]:
        """Errors of each kind among detections of at least this score."""
        shown = self.matches.detections.scores >= threshold
        numbers = np.bincount(
            self.kinds[shown & (self.kinds != NONE)], minlength=len(KINDS)
        ).tolist()
        numbers[MISSED] = int(self.missed(shown).sum())
        return dict(zip(KINDS, numbers, strict=True))

    def ap50(self) -> float:
        """As COCO's evaluation measures it, in percent."""
        return self._ap50(self.matches.found, self.matches.is_false)

    def gains(self) -> dict[str, float]:
        """What AP50, in percent, would gain if a kind of error were mended and all else stayed.

        A wrong class or box becomes right if nothing has found its object, the best one of several; the others are left
        out, as are detections of the kinds both, duplicate and background. Missed objects are no longer asked for.
        """
        before, found, is_false = self.ap50(), self.matches.found, self.matches.is_false
        after = []
        for kind in range(len(KINDS)):
            of_kind = self.kinds == kind
            if kind == MISSED:
                every = np.ones(len(of_kind), dtype=bool)
                after.append(self._ap50(found, is_false, left_out=self.missed(every)))
            elif kind in (CLASS, BOX):
                after.append(self._ap50(self._mended(of_kind), is_false & ~of_kind))
            else:
                after.append(self._ap50(found, is_false & ~of_kind))
        return {kind: value - before for kind, value in zip(KINDS, after, strict=True)}

    def _mended(self, of_kind: np.ndarray) -> np.ndarray:
        """(N,) like ``Matches.found``, where the best detection of a mask (N,) finds its target if nothing else has."""
        found = self.matches.found.copy()
        wrong = np.flatnonzero(of_kind)
        wrong = wrong[np.argsort(-self.matches.detections.scores[wrong], kind="stable")]
        targets, first = np.unique(self.target[wrong], return_index=True)
        is_free = ~np.isin(targets, found)
        found[wrong[first[is_free]]] = targets[is_free]
        return found

    def _ap50(
        self, found: np.ndarray, is_false: np.ndarray, left_out: np.ndarray | None = None
    ) -> float:
        """AP50 of the detections that find an object (N,), whatever their class, and of false ones (N,)."""
        m = self.matches
        kept = (found != NONE) | is_false
        # One that was mended has the class of its object.
        classes = np.where(found != NONE, _at(m.objects.classes, found), m.detections.classes)
        asked = m.objects.classes if left_out is None else m.objects.classes[~left_out]
        return average_precision(
            classes[kept],
            m.detections.scores[kept],
            found[kept] != NONE,
            np.bincount(asked, minlength=m.num_classes),
        )


def find_error_kinds(matches: Matches) -> ErrorKinds:
    """The kind of each detection's error."""
    m = matches
    rules = (
        (BOX, (m.own_iou >= BACKGROUND_IOU) & (m.own_iou <= IOU_THRESHOLD)),
        (CLASS, m.other_iou >= IOU_THRESHOLD),
        (DUPLICATE, m.own_iou >= IOU_THRESHOLD),
        (BACKGROUND, np.maximum(m.own_iou, m.other_iou) <= BACKGROUND_IOU),
        (BOTH, np.ones(len(m.found), dtype=bool)),
    )
    kinds = np.full(len(m.found), NONE)
    for kind, holds in rules:
        kinds[m.is_false & holds & (kinds == NONE)] = kind
    target = np.where(kinds == BOX, m.own, np.where(kinds == CLASS, m.other, NONE))
    return ErrorKinds(matches=m, kinds=kinds, target=target)


def best_threshold(matches: Matches) -> float:
    """The score from which on detections are best taken: where F1, over all classes together, is highest.

    Returns:
        In [0, 1], cut to two digits so that people can read it; 0.5 if no detection is right.
    """
    counts = ~matches.ignored
    scores = matches.detections.scores[counts]
    order = np.argsort(-scores, kind="stable")
    true = matches.is_true[counts][order].cumsum()
    if not len(true) or not true[-1]:
        return 0.5
    f1 = 2 * true / (np.arange(1, len(true) + 1) + len(matches.objects))
    # All of a score are taken, or none.
    scores = scores[order]
    is_last = np.append(scores[1:] != scores[:-1], True)
    best = np.where(is_last, f1, -1.0).argmax()
    return float(np.floor(scores[best] * 100) / 100)


def _at(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values at an index that may be ``NONE``, where anything comes back."""
    return values[index] if len(values) else np.zeros(len(index), dtype=np.int64)
