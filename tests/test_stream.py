"""The made-up site of `make bench`: what it promises of itself, and a short stream through it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from aiops_cli.examine import bounds
from bench import stream as simulated
from bench._site import NOVEL, Failure, corpus, halves, made_up, stream
from knowledge.base import KnowledgeBase
from knowledge.calibration import Bound
from knowledge.embedders import BuiltinEmbedder
from knowledge.ranking import BUILTIN_BOUND, similarity
from knowledge.signature import sign
from knowledge.stores.memory import MemoryStore
from tests import builders

TEXTS = corpus()


@pytest.fixture(scope="module")
def failures() -> list[Failure]:
    return list(stream(TEXTS, 1000, seed=11))


def test_the_same_seed_is_the_same_stream(failures: list[Failure]) -> None:
    again = list(stream(TEXTS, 50, seed=11))
    assert again == failures[:50]
    assert list(stream(TEXTS, 50, seed=12)) != again


def test_a_fifth_never_comes_again(failures: list[Failure]) -> None:
    met = Counter(one.spot.dag_id for one in failures)
    novel = [one for one in failures if one.spot.novel]
    assert abs(len(novel) / len(failures) - NOVEL) < 0.05
    assert all(met[one.spot.dag_id] == 1 for one in novel)


def test_what_must_not_run_again_is_never_right_to_run_again(failures: list[Failure]) -> None:
    harmful = [one.spot for one in failures if one.spot.harmful and not one.spot.novel]
    assert harmful
    assert all(spot.right == "none" and not spot.tags for spot in harmful)


def test_the_same_text_may_need_different_things(failures: list[Failure]) -> None:
    rights: dict[str, set[str]] = {}
    for one in failures:
        rights.setdefault(one.incident.signature.fingerprint, set()).add(one.spot.right)
    assert any(len(several) > 1 for several in rights.values())


def test_incidents_are_in_time_and_each_its_own(failures: list[Failure]) -> None:
    times = [one.incident.failed_at for one in failures]
    assert times == sorted(times)
    assert len({one.incident.id for one in failures}) == len(failures)


def test_what_is_made_up_is_like_nothing_else() -> None:
    dice = random.Random(5)
    signatures = [sign(made_up(dice)).text for _ in range(12)]
    known = [sign(text.text).text for text in TEXTS[::10]]
    for place, one in enumerate(signatures):
        others = [*signatures[:place], *known]
        assert max(similarity(one, other) for other in others) < BUILTIN_BOUND


def test_halves_share_no_class() -> None:
    one, other = halves(TEXTS, seed=1)
    assert not one & other
    assert one | other == {text.label for text in TEXTS}


def test_a_short_stream_is_met_to_its_end() -> None:
    counts = simulated.simulate(TEXTS, 30, 0.05, seed=2)
    assert counts.total() == 30
    found = {outcome for _, outcome in counts}
    assert found <= set(simulated.OUTCOMES)
    assert not {"harmful"} & found
    assert counts == simulated.simulate(TEXTS, 30, 0.05, seed=2)


def test_one_wrong_yes_for_a_whole_task_is_not_enough(
    failures: list[Failure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person always says yes to what does harm, and that the task may run twice whatever
    fails; it turns green and is called wrong a day later. Until then nobody is spared the
    question, and afterwards neither."""
    monkeypatch.setattr(simulated, "WHOLE_TASK", 1.0)
    harmful = next(one for one in failures if one.spot.harmful and not one.spot.novel)
    # No comeback counts as one, so that nothing but the time that a yes has to stand is in the way.
    settings = replace(simulated.settings(), relapse_window=timedelta(minutes=1))
    site = simulated.Simulation(settings, 1.0, seed=3)
    task = harmful.incident.instance, harmful.incident.dag_id, harmful.incident.task_id
    met = []
    for hours in (0, 1, 23, 25, 60):
        at = harmful.incident.failed_at + timedelta(hours=hours)
        again = replace(
            harmful.incident, run_id=f"after {hours}", ti_id=f"{hours}", failed_at=at, seen_at=at
        )
        met.append(site.meet(replace(harmful, incident=again)))
        words = [(one.fingerprint, one.safe) for one in site.replay.store.vouches(*task)]
        assert hours or words == [(None, True)]
    assert met == ["escalated"] * 5
    assert (None, False) in words


@pytest.mark.parametrize("name", simulated.BASELINES)
def test_each_baseline_meets_the_same_stream(name: str) -> None:
    counts = simulated.simulate_baseline(name, TEXTS, 60, 0.0, seed=2)
    assert counts.total() == 60
    if name == "blind retry":
        assert counts[0, "escalated"] == counts[0, "told"] == 0


# ---- the bound that the gate uses ----


def test_which_bound_is_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    knowledge = KnowledgeBase(MemoryStore(), BuiltinEmbedder())
    settings, incident = simulated.settings(), builders.incident()
    used = bounds(knowledge, settings, incident)
    assert (used.similarity, used.source, used.outcomes) == (BUILTIN_BOUND, "embedder", 0)

    record = Bound(0.9, 214, enough=True, kinds={incident.signature.error_class: 0.93})
    monkeypatch.setattr(knowledge, "record_bound", lambda: record)
    used = bounds(knowledge, settings, incident)
    assert (used.similarity, used.source, used.outcomes) == (0.93, "record", 214)

    strict = replace(settings, gate=replace(settings.gate, similarity=0.97))
    used = bounds(knowledge, strict, incident)
    assert (used.similarity, used.source) == (0.97, "settings")


@pytest.mark.parametrize("enough", [False, True])
def test_a_long_record_calibrates_an_embedder_that_nobody_measured(
    monkeypatch: pytest.MonkeyPatch, enough: bool
) -> None:
    embedder = BuiltinEmbedder()
    monkeypatch.setattr(embedder, "calibrated", False)
    knowledge = KnowledgeBase(MemoryStore(), embedder)
    monkeypatch.setattr(knowledge, "record_bound", lambda: Bound(0.9, 120, enough=enough))
    used = bounds(knowledge, simulated.settings(), builders.incident())
    assert used.calibrated is enough
