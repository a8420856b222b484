"""What a run used beside what people did for it: labels that were there before are spent, and nobody was asked."""

from collections.abc import Mapping, Sequence

from al_lab.reporting.document.tables import Table, duration, unit_of
from al_lab.reporting.read.run_folder import Run


def asked_words(run: Run, costs: Sequence[Mapping[str, float]]) -> str:
    """Say how much of what a run uses people were asked for, and how long it took where that is known."""
    said = []
    for kind, noun in (("images", "labeled images"), ("clicks", "named points and squares")):
        used, asked = (sum(c.get(k, 0.0) for c in costs) for k in (kind, f"asked_{kind}"))
        if used or (kind == "images" and not _of_clicks(costs)):
            before = f", the other {used - asked:,.0f} were labeled before" if asked < used else ""
            said.append(f"The run uses {used:,.0f} {noun}; people were asked for {asked:,.0f} of them{before}.")
    words = " ".join(said)
    asked, timed = (sum(c.get(k, 0.0) for c in costs) for k in ("asked_images", "timed_images"))
    assumed = sum(_assumed_s(run, c) for c in costs)
    if not assumed:
        return words
    real = sum(3600 * c.get("timed_hours", 0.0) for c in costs)
    words += f" By the assumed rates that takes {duration(assumed)};"
    if not timed:
        return words + " the real time nobody measured."
    if _of_clicks(costs):
        return words + f" the tool measured {duration(real)} for {timed:,.0f} images."
    every = "all" if timed == asked else f"{timed:,.0f}"
    return words + f" the tool measured {duration(real)} for {every} of them."


def _of_clicks(costs: Sequence[Mapping[str, float]]) -> bool:
    """Say whether people named points or squares."""
    return any(c.get("clicks", 0.0) > 0 for c in costs)


def _assumed_s(run: Run, cost: Mapping[str, float]) -> float:
    """Return the seconds that what people were asked for takes by the run's own rates."""
    oracle = run.config.get("oracle")
    rates = oracle if isinstance(oracle, Mapping) else {}
    pairs = (
        ("asked_images", "seconds_per_image"),
        ("asked_boxes", "seconds_per_box"),
        ("asked_maps", "seconds_per_map"),
        ("asked_clicks", "seconds_per_pixel"),
    )
    return sum(cost.get(k, 0.0) * float(r) for k, rate in pairs if isinstance(r := rates.get(rate), int | float))


def asked_table(run: Run, costs: Mapping[str, Mapping[str, float]]) -> Table:
    """Set what a run used (its budget, the curves) beside what people did for it."""
    part = "clicks" if _of_clicks(list(costs.values())) else "boxes"
    counts = ("images", "asked_images", part, f"asked_{part}", "timed_images")
    unit, size = unit_of([sum(max(_assumed_s(run, c), 3600 * c.get("asked_hours", 0.0)) for c in costs.values())])

    def row(name: str, chosen: Sequence[Mapping[str, float]]) -> list[object]:
        numbers = [int(sum(c.get(k, 0.0) for c in chosen)) for k in counts]
        assumed = sum(_assumed_s(run, c) for c in chosen) / size
        real = sum(3600 * c.get("timed_hours", 0.0) for c in chosen) / size
        return [name, *numbers, assumed, real if numbers[-1] else None]

    rows = [row(name, [c]) for name, c in costs.items()]
    rows.append(row("sum", list(costs.values())))
    columns = [
        "bought after cycle", "images used", "images asked for", f"{part} used", f"{part} asked for",
        "images timed", f"{unit} assumed", f"{unit} measured",
    ]  # fmt: skip
    note = (
        "Used is what the budget and the curves count; times are of what was asked for, measured ones of those timed."
    )
    return Table("asked", "What was used, and what people were asked for", columns, rows, digits=1, note=note)
