"""Images that belong together: frames of a video, photographs of a patient or a camera, told by their names."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from al_lab.core.errors import ConfigError, DataError, explain
from al_lab.core.fields import at_least, text
from al_lab.core.pool import Apart
from al_lab.data.formats.splits import in_test_share

log = logging.getLogger(__name__)

WHOLE_GROUP = "group"
_DIGITS = re.compile(r"[0-9]+")
_ROLES = ("test", "val", "pool")  # a group that is in two stays in the first
_EXAMPLE = r"e.g. dataset.group_by='^(.+)_[0-9]+$' for video_0001, video_0002, …"


class Grouping:
    """Which group an image is of, and its number in it.

    Args:
        group_by: a regular expression that is searched in the id (the path below the image folder, without suffix). The
            group is what its parentheses match (all of them, but not one called ``frame``), else all that it matches.
            The number is that of ``(?P<frame>…)``, else the last one behind the group, else the last one of the name.
        min_gap: how far apart two numbers of a group must be in one purchase; "group": one image of a group; None: no
            such rule.

    Raises:
        ConfigError: for no regular expression, and a gap that is none.
    """

    def __init__(self, group_by: str, min_gap: int | str | None = None) -> None:
        try:
            self.pattern = re.compile(text(group_by, "dataset.group_by", _EXAMPLE))
        except re.error as error:
            raise ConfigError(
                explain(
                    expected="a regular expression",
                    got=f"{group_by!r} ({error})",
                    where="dataset.group_by",
                    do=_EXAMPLE,
                )
            ) from None
        if min_gap not in (None, WHOLE_GROUP):
            do = f"null for no rule, {WHOLE_GROUP} for one image of a group in each purchase"
            at_least(1)(min_gap, "dataset.min_gap", do=do)
        self.min_gap = min_gap

    @classmethod
    def of(cls, group_by: str | None, min_gap: int | str | None) -> Grouping | None:
        """Return the grouping that two settings describe; None for none.

        Raises:
            ConfigError: for a gap without groups.
        """
        if group_by is None and min_gap is not None:
            got = f"dataset.min_gap={min_gap} alone"
            raise ConfigError(
                explain(expected="groups to keep a gap in", got=got, where="dataset.group_by", do=_EXAMPLE)
            )
        return None if group_by is None else cls(group_by, min_gap)

    def group(self, sample_id: str) -> str:
        """Return an image's group; an image that the expression doesn't match is one by itself."""
        found = self.pattern.search(sample_id)
        return f"{sample_id} (alone)" if found is None else "/".join(self._parts(found)) or found[0]

    def frame(self, sample_id: str) -> int | None:
        """Return an image's number in its group; None if its name holds none."""
        found = self.pattern.search(sample_id)
        if found is not None and found.groupdict().get("frame"):
            digits = _DIGITS.findall(found["frame"])
            return int(digits[-1]) if digits else None
        behind = 0 if found is None else max((found.end(n) for n in self._numbers(found)), default=found.end())
        digits = _DIGITS.findall(sample_id[behind:]) or _DIGITS.findall(sample_id)
        return int(digits[-1]) if digits else None

    def _numbers(self, found: re.Match[str]) -> list[int]:
        frame = self.pattern.groupindex.get("frame")
        return [n for n in range(1, self.pattern.groups + 1) if n != frame and found[n] is not None]

    def _parts(self, found: re.Match[str]) -> list[str]:
        return [found[n] for n in self._numbers(found)]

    def check(self, ids: Sequence[str], where: str) -> list[str]:
        """Return the images that the expression doesn't match.

        Raises:
            DataError: if it matches none, or numbers are needed and missing.
        """
        alone = [i for i in ids if self.pattern.search(i) is None]
        if len(alone) == len(ids):
            raise DataError(
                explain(
                    expected="an expression that matches names of images",
                    got=f"{self.pattern.pattern!r}, which matches none of {len(ids)}, such as {ids[0]!r}",
                    where=f"{where}: dataset.group_by",
                    do=_EXAMPLE,
                )
            )
        if isinstance(self.min_gap, int):
            for sample_id in ids:
                if self.frame(sample_id) is None:
                    raise DataError(
                        explain(
                            expected=f"a number in each name, to tell which are {self.min_gap} apart",
                            got=repr(sample_id),
                            where=f"{where}: dataset.min_gap",
                            do=f"rename the image, or use dataset.min_gap={WHOLE_GROUP} or null",
                        )
                    )
        return alone

    def apart(self, ids: Sequence[str]) -> Apart | None:
        """Return what one purchase may not take together; None without such a rule."""
        if self.min_gap is None:
            return None
        groups = {i: self.group(i) for i in ids}
        if self.min_gap == WHOLE_GROUP:
            return Apart(groups)
        return Apart(groups, {i: self.frame(i) or 0 for i in ids}, int(self.min_gap))

    def separate(self, splits: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Take images out of the pool whose group is in val or test, and out of val whose group is in test.

        Returns:
            The splits, and what was left out of each.
        """
        owner: dict[str, str] = {}
        for role in _ROLES:
            for group in {self.group(i) for i in splits.get(role, ())}:
                owner.setdefault(group, role)
        kept = {role: [i for i in ids if owner[self.group(i)] == role] for role, ids in splits.items()}
        return kept, {role: [i for i in ids if owner[self.group(i)] != role] for role, ids in splits.items()}

    def share(self, ids: Sequence[str], fraction: float) -> list[str]:
        """Choose whole groups that are about a fraction of some images: the first by the hash of their names.

        At least one group is chosen, and one is left.
        """
        if ids:
            self.check(ids, "dataset")
        members: dict[str, list[str]] = defaultdict(list)
        for sample_id in ids:
            members[self.group(sample_id)].append(sample_id)
        if fraction <= 0 or not members:
            return []
        if len(members) == 1:
            raise DataError(
                explain(
                    expected="at least two groups with labels, so that one can be the test set",
                    got=f"one, {next(iter(members))!r}",
                    where="dataset.group_by",
                    do="correct the expression, or begin without a test set: dataset.test_split=none",
                )
            )
        order = sorted(members, key=lambda group: hashlib.sha256(group.encode()).digest())
        chosen: list[str] = []
        for number, group in enumerate(order[:-1]):
            grown = len(chosen) + len(members[group])
            if number and grown - fraction * len(ids) > fraction * len(ids) - len(chosen):
                break
            chosen += members[group]
        return sorted(chosen)


def automatic_test(ids: Sequence[str], fraction: float, grouping: Grouping | None) -> list[str]:
    """Return which of some labeled images become the test set where nobody says it: whole groups, if there are any."""
    return [i for i in ids if in_test_share(i, fraction)] if grouping is None else grouping.share(ids, fraction)


def expression_for(pairs: Sequence[tuple[str, str]]) -> str | None:
    """Return a ``group_by`` under which the images of most pairs are of one group; None if names don't tell.

    Tried are the file's name without its last number, and the name of its folder.
    """
    found = Counter(
        pattern
        for pattern in (r"([^/]*[^/0-9_. -][^/]*?)[_. -]*[0-9]+$", r"([^/]+)/[^/]+$")
        for a, b in pairs
        if (first := re.search(pattern, a)) and (second := re.search(pattern, b)) and first[1] == second[1]
    )
    return max(found, key=lambda p: found[p]) if found else None
