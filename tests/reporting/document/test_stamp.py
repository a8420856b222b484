"""A page says of which ledger it tells; clocks are not asked."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from al_lab.campaign.publish import renew_report
from al_lab.core.files import sha256
from al_lab.reporting.document.stamp import is_up_to_date, stamp


@pytest.mark.parametrize(
    ("harm", "is_good"),
    [
        (lambda page, ledger: os.utime(page, (0, 0)), True),
        (lambda page, ledger: ledger.write_text("more\n"), False),
        (lambda page, ledger: page.write_text(page.read_text().replace("0.5", "0.6")), False),
        (lambda page, ledger: page.write_text("<p>0.5</p>"), False),
        (lambda page, ledger: page.write_bytes(b"\xff" + page.read_bytes()), False),
        (lambda page, ledger: page.unlink(), False),
    ],
)
def test_a_page_is_renewed_if_it_is_not_of_this_ledger_or_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path, Path], object], is_good: bool
) -> None:
    page, ledger = tmp_path / "report.html", tmp_path / "ledger.jsonl"
    ledger.write_text("one\n")
    page.write_text("<p>0.5</p>\n")
    stamp(page, sha256(ledger))
    os.utime(page, (2**32, 2**32))  # a clock that went back since
    harm(page, ledger)
    assert is_up_to_date(page, ledger) == is_good
    written = []
    monkeypatch.setattr("al_lab.campaign.publish._write_report", lambda run_dir, folders: written.append(run_dir))
    renew_report(tmp_path, {})
    assert bool(written) != is_good
