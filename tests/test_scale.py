"""The bench of the stores: what it calls a hit, and that it tells what is out of bounds."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from bench._variations import corpus_signatures, variations
from bench.scale import BOUNDED, Figures, Times, hits, out_of_bounds

GOOD = Times(vector=[1.0], text=[1.0], find=[5.0], nearest=[[0.9, 0.8, 0.7, 0.6, 0.5]], best=[0.9])
FIGURES = Figures(BOUNDED, [1.0, 2.0], 1.0, [1, 1], [1, 1], [GOOD, GOOD], True)


def test_a_hit_is_as_near_as_the_exact_fifth() -> None:
    exact = [[0.9, 0.8, 0.7, 0.6, 0.5]]
    assert hits([[0.9, 0.6, 0.5, 0.5, 0.5]], exact) == 1, "equally far is as good"
    assert hits([[0.9, 0.8, 0.7, 0.6, 0.4]], exact) == 0.8
    assert hits([[0.9]], exact) == 0.2, "what was not found is no hit"


def test_what_is_out_of_bounds_is_told() -> None:
    slow = replace(GOOD, find=[7.0])
    far = replace(GOOD, nearest=[[0.9, 0.8, 0.7, 0.6, 0.4]])
    assert out_of_bounds(FIGURES) == []
    for figures, word in (
        (replace(FIGURES, times=[slow, GOOD]), "on SQLite"),
        (replace(FIGURES, times=[GOOD, slow]), "on Postgres"),
        (replace(FIGURES, times=[GOOD, far]), "recall@5 is 0.800"),
        (replace(FIGURES, ingest=[1.0, 5.0]), "ingest takes 5.0 times"),
        (replace(FIGURES, index_used=False), "not used"),
    ):
        [told] = out_of_bounds(figures)
        assert word in told


def test_variations_are_distinct_and_the_same_every_time() -> None:
    texts = corpus_signatures()
    some = list(islice(variations(texts, 1), 500))
    assert some == list(islice(variations(texts, 1), 500))
    assert len({*some, *texts}) == 500 + len(texts)
    others = set(islice(variations(texts, 2), 500))
    assert len(others & set(some)) < 50
