"""The soak of `make stress` (scripts/soak.py), a few minutes long instead of a day."""

from __future__ import annotations

from scripts import soak
from scripts.stress import sqlite


def test_a_watch_that_is_left_on_loses_nothing_and_does_nothing_twice() -> None:
    with sqlite() as url:
        seen = soak.soaked(url, passes=20, seed=5)
    assert seen.whole, seen
    assert seen.acts > 3
    assert seen.failures > seen.acts  # some were not for the tool
    assert len(seen.samples) == 20 + soak.QUIET
    assert max(sample.files for sample in seen.samples) < 30


def test_what_is_wrong_is_told() -> None:
    good = soak.Soaked(9, 5, 0, 0, 0, 0, memory=1.0, files=1.0, samples=[])
    assert good.whole
    for wrong in (
        good._replace(twice=1),
        good._replace(lost=1),
        good._replace(undue=1),
        good._replace(unsettled=1),
    ):
        assert not wrong.whole
