"""The soak of `make stress` (scripts/soak.py), a few minutes long instead of a day."""

from __future__ import annotations

from scripts import soak


def test_a_watch_that_is_left_on_loses_nothing_and_does_nothing_twice() -> None:
    with soak.sqlite() as url:
        seen = soak.soaked(url, passes=20, seed=5)
    assert seen.whole, seen
    assert seen.acts > 3
    assert seen.failures > seen.acts  # some were not for the tool
    assert len(seen.samples) == 20 + soak.QUIET
    assert max(sample.files for sample in seen.samples) < 30


def test_what_is_wrong_is_told() -> None:
    good = soak.Soaked(9, 5, 0, 0, 0, 0, memory=1.0, files=1.0, samples=[])
    assert good.whole
    for wrong in ("twice", "lost", "undue", "unsettled"):
        assert not good._replace(**{wrong: 1}).whole
