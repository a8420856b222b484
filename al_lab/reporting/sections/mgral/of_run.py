"""The sections of a run of MGRAL."""

from al_lab.reporting.document.page import Section
from al_lab.reporting.read.lut import closed_gates, gain_cycles, lut_cycles
from al_lab.reporting.read.run_folder import Run
from al_lab.reporting.sections.mgral.chance import chance_section
from al_lab.reporting.sections.mgral.clock import price_section
from al_lab.reporting.sections.mgral.gains import gains_section
from al_lab.reporting.sections.mgral.table import table_section
from al_lab.reporting.sections.mgral.training import training_section
from al_lab.reporting.sections.mgral.truth import truth_section


def mgral_sections(run: Run) -> list[Section]:
    """Return the sections of a run that has look-up tables, or gains instead of them; none for any other."""
    cycles, gains, closed = lut_cycles(run), gain_cycles(run), closed_gates(run)
    if gains or closed:
        told = [gains_section(gains, closed), truth_section(run, gains) if gains else None]
        return [section for section in told if section is not None]
    if not cycles:
        return []
    sections = [
        chance_section(run, cycles),
        truth_section(run, cycles),
        table_section(cycles),
        training_section(cycles),
        price_section(run, cycles),
    ]
    return [section for section in sections if section is not None]
