"""How many codes a pass looks at.

A wide window takes few passes, a narrow one less work in each. What pays changes along a clip: where drafts
hold, a pass can look far ahead; where most of them change, what lies behind them is drawn in vain. So the
window follows the drafts, and whatever it does, the codes are those of one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

MAX_WINDOW = 64
PLACES = 256  # of all rows, the most in a pass
STEP = 8  # windows are rounded to it: oneDNN generates code for each number of rows that it meets


class Reach(NamedTuple):
    """A window ends ``further`` places after the ``wrong``-th draft that the last pass drew otherwise; if
    there were fewer, after the last draft.
    """

    wrong: int
    further: int


REACHES = {1: Reach(12, 16), 2: Reach(8, 12), 8: Reach(6, 8)}  # of so many rows and fewer; docs/decoding.md
SHORTEST = Reach(0, STEP)


class Window:
    """The window of a batch: ``fixed``, or following its drafts."""

    def __init__(self, num_codes: int, fixed: int | None = None) -> None:
        self.whole = max(1, num_codes - 1)  # the last code of a clip is never run
        self.fixed = None if fixed is None else min(fixed, self.whole)
        self._near = 0.0  # drafts before so many wrong ones, mean of the clips

    def most(self, rows: int) -> int:
        """The longest window that so many rows can have: clips, counted twice with guidance."""
        return self.fixed or min(self.whole, max(STEP, min(MAX_WINDOW, PLACES // rows // STEP * STEP)))

    def length(self, rows: int, left: int) -> int:
        """Places of the next pass, if the clip that is furthest behind has ``left`` codes to run."""
        wanted = self.fixed or STEP * round((self._near + reach_of(rows).further) / STEP)
        left = -(-left // STEP) * STEP
        return min(wanted, left, self.most(rows))

    def look(self, held: Sequence[Sequence[bool]], rows: int) -> None:
        """held: for each clip that is not done, whether the last pass drew again what was drafted, place by
        place from the first that is not final; if all were, of all places of the pass.
        """
        if self.fixed is None and held:
            wrong = reach_of(rows).wrong
            self._near = sum(_before(wrong, drafts) for drafts in held) / len(held)


def reach_of(rows: int) -> Reach:
    """How far a window of so many rows reaches."""
    return next((reach for most, reach in REACHES.items() if rows <= most), SHORTEST)


def _before(wrong: int, held: Sequence[bool]) -> int:
    """How many places stand before the wrong-th that did not hold."""
    for place, repeated in enumerate(held):
        wrong -= not repeated
        if wrong <= 0:
            return place
    return len(held)
