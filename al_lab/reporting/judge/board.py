"""A leaderboard: all pairs of all data sets judged as one family, and lines over data sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from al_lab.core.statistics.verdict import contrasts
from al_lab.reporting.judge.contest import Contest
from al_lab.reporting.judge.judge import Pair
from al_lab.reporting.judge.ranks import share_beaten


@dataclass(frozen=True)
class Decided:
    """A pair on one data set."""

    contest: str
    pair: Pair

    @property
    def named(self) -> Pair:
        """The pair with its data set in our line's name, for a sentence over several."""
        return Pair(f"{self.pair.ours} on {self.contest}", self.pair.theirs, self.pair.contrast, self.pair.values)


@dataclass(frozen=True)
class Overall:
    """A line over all data sets it is in.

    Attributes:
        label: its name.
        contests: how many these are.
        beaten: share of its rivals that it beats, on average.
        low: of the 95 % interval of that.
        high: likewise.
        wins: pairs in which it is clearly better.
        losses: pairs in which it is clearly worse.
        pairs: all it was judged in.
    """

    label: str
    contests: int
    beaten: float
    low: float
    high: float
    wins: int
    losses: int
    pairs: int


@dataclass(frozen=True)
class Board:
    """All data sets of a leaderboard.

    Differences from the references of all data sets are one family, all other pairs another: Holm's correction is for
    the whole page, so what is clear on the page of one experiment may not be on a board of ten.
    """

    contests: tuple[Contest, ...]

    @cached_property
    def planned(self) -> tuple[Decided, ...]:
        """Every line against its references."""
        return self._decided([(c, p.ours, p.theirs) for c in self.contests for p in c.judge.planned])

    @cached_property
    def explored(self) -> tuple[Decided, ...]:
        """All other pairs."""
        return self._decided([(c, p.ours, p.theirs) for c in self.contests for p in c.judge.explored])

    def _decided(self, wanted: Sequence[tuple[Contest, str, str]]) -> tuple[Decided, ...]:
        values = [c.judge.difference(a, b) for c, a, b in wanted]
        judged = contrasts(values, [c.judge.spread_of(a, b) for c, a, b in wanted])
        return tuple(
            Decided(c.name, Pair(a, b, contrast, v))
            for (c, a, b), contrast, v in zip(wanted, judged, values, strict=True)
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """All lines, the one that beats most rivals first."""
        return tuple(o.label for o in self.overall)

    @cached_property
    def overall(self) -> tuple[Overall, ...]:
        """All lines over the data sets they are in."""
        labels = dict.fromkeys(e.label for c in self.contests for e in c.entries)
        return tuple(sorted((self._overall(label) for label in labels), key=lambda o: (-o.beaten, o.label)))

    def _overall(self, label: str) -> Overall:
        places: list[np.ndarray] = []
        counts = []
        for contest in self.contests:
            at = next((k for k, e in enumerate(contest.entries) if e.label == label), None)
            if at is not None:
                places.append(contest.ranks(contest.units[0]).drawn_LD[at])
                counts.append(len(contest.entries))
        score = [self.score(label, other) for other in {e.label for c in self.contests for e in c.entries} - {label}]
        wins, losses, pairs = (sum(part) for part in zip(*score, strict=True))
        return Overall(label, len(counts), *share_beaten(places, counts), wins, losses, pairs)

    def score(self, ours: str, theirs: str) -> tuple[int, int, int]:
        """Return on how many data sets a line is clearly better than another, clearly worse, and both are."""
        wins = losses = pairs = 0
        for decided in (*self.planned, *self.explored):
            pair = decided.pair
            if {pair.ours, pair.theirs} != {ours, theirs} or not pair.contrast.seeds:
                continue
            pairs += 1
            is_up = (pair.contrast.difference > 0) == (pair.ours == ours)
            wins += pair.contrast.is_clear and is_up
            losses += pair.contrast.is_clear and not is_up
        return wins, losses, pairs
