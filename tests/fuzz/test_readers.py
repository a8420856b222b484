"""Whatever a file holds: a reader returns something sensible, or an error of ours that names the file.

``make fuzz`` tries 10,000 inputs a reader and prints how they ended; here it is 200, always the same ones.
"""

import logging
import os
import sys
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings

from al_lab.core.errors import LabError
from tests.fuzz.targets import TARGETS

INPUTS = int(os.environ.get("AL_LAB_FUZZ_INPUTS", "200"))
SETTINGS = settings(
    max_examples=INPUTS,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.mark.timeout(24 * 3600 if INPUTS > 200 else 300)
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_or_names(name, tmp_path):
    target, ended = TARGETS[name], Counter()
    path = tmp_path / "given" / target.file
    path.parent.mkdir()
    target.prepare(path.parent)

    @SETTINGS
    @given(target.inputs)
    def try_one(content):
        path.write_bytes(content)
        try:
            found = target.read(path)
        except LabError as error:
            assert str(path.parent) in str(error) or not target.names_file  # noqa: PT017 - the file, or what lies beside it, is named
            assert "expected" in str(error)  # noqa: PT017
            ended["refused"] += 1
        else:
            target.holds(found)
            ended["accepted"] += 1

    logging.disable(logging.CRITICAL)
    try:
        try_one()
    finally:
        logging.disable(logging.NOTSET)
    says_it_in_notes = name.startswith(("answers", "what a file is"))
    assert ended["accepted"] > 0
    assert ended["refused"] > 0 or says_it_in_notes
    if INPUTS > 200:
        sys.stdout.write(
            f"| {name} | {sum(ended.values()):,} | {ended['accepted']:,} | {ended['refused']:,} | 0 | 0 |\n"
        )
