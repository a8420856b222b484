"""Which branches there are."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from torch import nn

from al_lab.core.errors import ConfigError, did_you_mean, explain
from al_lab.models.detectors.branches.branch import Branch, Site
from al_lab.models.detectors.branches.class_quality import ClassQualityBranch
from al_lab.models.detectors.branches.evidence import EvidenceBranch
from al_lab.models.detectors.branches.learning_loss import LearningLossBranch
from al_lab.models.detectors.branches.mixture import MixtureBranch
from al_lab.models.detectors.branches.two_heads import TwoHeadsBranch

BRANCHES: dict[str, type[Branch]] = {
    "two_heads": TwoHeadsBranch,
    "class_quality": ClassQualityBranch,
    "evidence": EvidenceBranch,
    "learning_loss": LearningLossBranch,
    "mixture": MixtureBranch,
}
_WHERE = "detector.branches"


def build_branches(wanted: Sequence[str] | Mapping[str, Any], site: Site) -> nn.ModuleDict:
    """Build branches, in the order given.

    Args:
        wanted: their names, or names with options (null: none).
        site: what they have to know of the network.

    Raises:
        ConfigError: for a name that there is none of, one that comes twice, or an option it has not.
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    built: dict[str, Branch] = {}
    for name in names:
        if not isinstance(name, str) or name not in BRANCHES or name in built:
            raise ConfigError(
                explain(
                    expected=f"names among {', '.join(BRANCHES)}, each once",
                    got=repr(name),
                    where=_WHERE,
                    do=did_you_mean(str(name), list(BRANCHES)),
                )
            )
        options = dict(wanted[name] or {}) if isinstance(wanted, Mapping) else {}
        known = [key for key in signature(BRANCHES[name]).parameters if key != "site"]
        strange = [key for key in options if key not in known]
        if strange:
            raise ConfigError(
                explain(
                    expected=f"options among {', '.join(known) or 'none'}",
                    got=repr(strange[0]),
                    where=f"{_WHERE}.{name}",
                    do=did_you_mean(str(strange[0]), known) if known else "leave it out",
                )
            )
        built[name] = BRANCHES[name](site, **options)
    return nn.ModuleDict(built)
