"""The mutants of tests/mutants.py fit the code: each changes a line that is there once."""

import pytest
from mutants import MUTANTS, ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.what)
def test_a_mutant_changes_one_line(mutant):
    assert (ROOT / "safety_align" / mutant.file).read_text().count(mutant.old) == 1
    for test in mutant.tests:
        assert (ROOT / "tests" / test).is_file()
