"""Random choice with a look-up table: what MGRAL's first stage does to a campaign."""

from al_lab.core.stage import Stage
from al_lab.core.strategy import STANDARD_STAGES
from al_lab.strategies.detection._mgral.build_lut import BuildLut
from al_lab.strategies.detection._mgral.rows.settings import LutSettings
from al_lab.strategies.general.random import Random


class WithLut(Random):
    """Buys at random; builds the table on the way."""

    def __init__(self, lut: dict) -> None:
        super().__init__()
        self.lut = LutSettings(**lut)

    def stages(self) -> list[str | Stage]:
        """Put ``build_lut`` before ``select``."""
        names: list[str | Stage] = list(STANDARD_STAGES)
        names.insert(names.index("select"), BuildLut(self.lut))
        return names
