"""Of which ledger a page tells: written at its end, so that clocks need not be asked whether it is up to date."""

import hashlib
import re
from pathlib import Path

from al_lab.core.files import sha256, write_text

_STAMP = re.compile(r"<!-- of ledger (\w+), page (\w+) -->\n\Z")


def stamp(page: Path, ledger_digest: str) -> None:
    """Write at the end of a page which ledger it was made of, and its own digest."""
    text = page.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_text(page, f"{text}<!-- of ledger {ledger_digest}, page {digest} -->\n")


def is_up_to_date(page: Path, ledger: Path) -> bool:
    """Whether a page was made of this ledger and is what was written."""
    try:
        text = page.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return False
    found = _STAMP.search(text)
    own = "" if found is None else hashlib.sha256(text[: found.start()].encode()).hexdigest()
    return found is not None and found.groups() == (sha256(ledger), own)
