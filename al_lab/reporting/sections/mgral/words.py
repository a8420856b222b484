"""Numbers and sentences as the page has them."""

import math
import re


def signed(value: float) -> str:
    """Return a number with its sign, two digits."""
    return f"{value:+.2f}".replace("-", "−")


def sentence(text: str) -> str:
    """Return what a run said of itself as a sentence of the page."""
    text = re.sub(r"(?<![\w.])-(?=\d)", "−", text)
    return f"{text[:1].upper()}{text[1:]}."


def whole(value: float) -> int | None:
    """Return a count; None where nobody counted."""
    return int(value) if math.isfinite(value) else None
