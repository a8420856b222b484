"""What a sample of mutants says of the tests: killed of judged with its interval by package, and who survived."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tests.mutants.catalog import Mutant


def wilson(killed: int, judged: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, JASA 1927)."""
    if not judged:
        return 0.0, 1.0
    share, n = killed / judged, judged
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return center - half, center + half


def table(sample: Sequence[Mutant], results: Mapping[str, Mapping[str, Any]], totals: Mapping[str, int]) -> str:
    """Return a Markdown table by package and the list of survivors."""
    rows = ["| package | mutants | judged | killed | share | 95 % interval |", "|---|--:|--:|--:|--:|---|"]
    for package in [*totals, "all"]:
        judged = [results[m.key] for m in sample if m.key in results and package in (m.package, "all")]
        killed = sum(r["verdict"] != "survived" for r in judged)
        low, high = wilson(killed, len(judged))
        share = f"{killed / len(judged):.1%}" if judged else "-"
        total = totals.get(package, sum(totals.values()))
        rows.append(f"| {package} | {total} | {len(judged)} | {killed} | {share} | {low:.1%} to {high:.1%} |")
    survivors = [m for m in sample if results.get(m.key, {}).get("verdict") == "survived"]
    lines = [f"- `{m.key}` {m.path}:{m.lines[0]} `{m.scope}` {m.kind}: `{m.change}`" for m in survivors]
    return "\n".join([*rows, "", f"Survivors: {len(lines)}", *lines])
