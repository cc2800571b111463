"""What every Store promises about entries and the three ways to find one."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from knowledge.errors import (
    EmbedderMismatch,
    NotFound,
)
from knowledge.records import Candidate, EntryVersion
from knowledge.stores import PutCounts, Store, VectorSpace
from tests.samples import (
    DAY,
    HOUR,
    NOW,
    SPACE,
    embedded,
    signature,
    unit,
)


def ids(found: tuple[Candidate, ...]) -> list[str]:
    return [one.entry.id for one in found]


# --- entries -----------------------------------------------------------------------------------


def test_an_entry_comes_back_as_it_was_put(store: Store) -> None:
    one = embedded("entry-a", ("A: x", unit(1, 0, 0)), ("B: y", unit(0, 1, 0)))
    store.put_entries([one], SPACE, NOW)
    assert store.entry("entry-a") == one.entry
    assert store.entries() == (one.entry,)


def test_put_counts_what_is_new_changed_and_known(store: Store) -> None:
    first, second = embedded("a", ("A: x", unit(1, 0, 0))), embedded("b", ("B: x", unit(1, 0, 0)))
    assert store.put_entries([first, second], SPACE, NOW) == PutCounts(added=2)
    later = replace(first, entry=replace(first.entry, created_at=NOW + DAY))
    assert store.put_entries([later, second], SPACE, NOW + DAY) == PutCounts(same=2)
    assert store.entry("a").created_at == NOW
    changed = embedded("a", ("A: x", unit(1, 0, 0)), cause="another")
    assert store.put_entries([changed, second], SPACE, NOW + DAY) == PutCounts(changed=1, same=1)
    assert [one.cause for one in store.entries()] == ["another", "the database was away"]


def test_the_same_id_twice_in_one_put_is_taken_in_turn(store: Store) -> None:
    one = embedded("a", ("A: x", unit(1, 0, 0)))
    other = embedded("a", ("B: x", unit(0, 1, 0)))
    assert store.put_entries([one, one, other], SPACE, NOW) == PutCounts(1, 1, 1)
    assert ids(store.find_vector(unit(1, 0, 0), 5)) == ["a"]
    assert store.find_exact(signature("A: x").fingerprint) == ()


def test_only_the_newest_version_is_found(store: Store) -> None:
    store.put_entries([embedded("a", ("Old: gone", unit(1, 0, 0)))], SPACE, NOW)
    store.put_entries([embedded("a", ("New: here", unit(0, 1, 0)))], SPACE, NOW)
    assert store.find_exact(signature("Old: gone").fingerprint) == ()
    assert store.find_text(["gone"], 5) == ()
    assert [one.entry.symptoms[0].text for one in store.find_vector(unit(1, 0, 0), 5)] == [
        "raw New: here"
    ]


def test_old_and_retired_versions_never_crowd_out_a_live_one(store: Store) -> None:
    far = embedded("live", ("Shared: far", unit(0, 1, 0)))
    store.put_entries([far], SPACE, NOW)
    for number in range(20):
        near = embedded("changing", ("Shared: near", unit(1, 0.01, 0)), cause=str(number))
        gone = embedded(f"gone{number}", ("Shared: near", unit(1, 0.02, 0)))
        store.put_entries([near, gone], SPACE, NOW)
        store.retire_entries([f"gone{number}"], "me", NOW, "old")
    assert ids(store.find_vector(unit(1, 0, 0), 2)) == ["changing", "live"]
    assert sorted(ids(store.find_text(["shared"], 2))) == ["changing", "live"]


def test_retired_entries_are_never_matched_but_stay_readable(store: Store) -> None:
    one = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    store.put_entries([one, embedded("entry-b", ("B: x", unit(0, 1, 0)))], SPACE, NOW)
    assert store.retire_entries(["entry-a"], "me", NOW, "stale") == 1
    assert store.retire_entries(["entry-a", "entry-b"], "me", NOW, "stale") == 1
    assert store.entry("entry-a") == replace(one.entry, retired=True)
    assert store.entries() == ()
    assert [entry.id for entry in store.entries(retired=True)] == ["entry-a", "entry-b"]
    assert store.find_exact(one.entry.symptoms[0].signature.fingerprint) == ()
    assert store.find_vector(unit(1, 0, 0), 5) == ()
    assert store.find_text(["a", "x"], 5) == ()


def test_a_retired_entry_stays_so_until_its_content_changes(store: Store) -> None:
    one = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    store.put_entries([one], SPACE, NOW)
    store.retire_entries(["entry-a"], "me", NOW, "stale")
    assert store.put_entries([one], SPACE, NOW) == PutCounts(same=1)
    assert store.entry("entry-a").retired
    changed = replace(one, entry=replace(one.entry, cause="another"))
    assert store.put_entries([changed], SPACE, NOW) == PutCounts(changed=1)
    assert not store.entry("entry-a").retired
    assert ids(store.find_vector(unit(1, 0, 0), 5)) == ["entry-a"]


def test_an_entry_that_comes_retired_is_never_live(store: Store) -> None:
    one = embedded("entry-a", ("A: x", unit(1, 0, 0)))
    gone = replace(one, entry=replace(one.entry, retired=True))
    assert store.put_entries([gone], SPACE, NOW, by="me") == PutCounts(added=1)
    assert store.entry("entry-a") == gone.entry
    assert store.entries() == ()
    assert store.find_exact(one.entry.symptoms[0].signature.fingerprint) == ()
    assert store.find_vector(unit(1, 0, 0), 5) == ()
    assert store.find_text(["a", "x"], 5) == ()
    assert store.put_entries([one], SPACE, NOW) == PutCounts(same=1)
    assert store.entry("entry-a").retired


def test_retiring_what_is_not_there_retires_nothing(store: Store) -> None:
    store.put_entries([embedded("entry-a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    with pytest.raises(NotFound):
        store.retire_entries(["entry-a", "nobody"], "me", NOW, "stale")
    assert not store.entry("entry-a").retired


def test_entries_are_listed_in_the_order_they_first_came(store: Store) -> None:
    for name in ("c", "a", "b"):
        store.put_entries([embedded(name, kind="history", source=f"x/{name}")], SPACE, NOW)
    store.put_entries([embedded("c", source="runbooks/c.md:1", cause="other")], SPACE, NOW)
    assert [one.id for one in store.entries()] == ["c", "a", "b"]
    assert [one.id for one in store.entries(kind="history")] == ["a", "b"]
    assert [one.id for one in store.entries(source="runbooks/")] == ["c"]
    assert store.entries(source="unbooks") == ()
    assert store.entries(source="%") == ()


def test_when_an_entry_was_first_put_is_known_of_every_version_and_retired_ones(
    store: Store,
) -> None:
    assert store.first_put() == {}
    a, b = (embedded(name, ("A: x", unit(1, 0, 0))) for name in "ab")
    later = embedded("a", ("A: x", unit(1, 0, 0)), cause="another", created_at=NOW + DAY)
    for one in (a, b, later):
        store.put_entries([one], SPACE, NOW)
    store.retire_entries(["b"], "me", NOW, "old")
    assert store.entry("a").created_at == NOW + DAY
    assert store.first_put() == {"a": NOW, "b": NOW}


def test_every_version_is_kept_with_the_time_when_it_was_retired(store: Store) -> None:
    first, later = (
        embedded("a", ("A: x", unit(1, 0, 0)), cause=cause, created_at=at)
        for cause, at in (("one", NOW), ("another", NOW + DAY))
    )
    other = embedded("b", ("B: x", unit(1, 0, 0)))
    gone = embedded("c", ("C: x", unit(1, 0, 0)), retired=True)
    for one in (first, other, first):
        store.put_entries([one], SPACE, NOW)
    store.retire_entries(["a", "b"], "me", NOW + HOUR, "old")
    store.retire_entries(["b"], "me", NOW + DAY, "again")
    store.put_entries([later], SPACE, NOW + DAY)
    store.put_entries([gone], SPACE, NOW + DAY)
    assert store.versions() == (
        EntryVersion(replace(first.entry, retired=True), NOW + HOUR),
        EntryVersion(replace(other.entry, retired=True), NOW + HOUR),
        EntryVersion(later.entry),
        EntryVersion(gone.entry, NOW + DAY),
    )


def test_an_entry_is_named_by_a_unique_prefix(store: Store) -> None:
    names = ("entry-a", "entry-b", "entry-bc", "x")
    store.put_entries([embedded(name) for name in names], SPACE, NOW)
    assert store.entry("entry-a").id == "entry-a"
    assert store.entry("entry-b").id == "entry-b"  # whole, though another begins with it
    assert store.entry("entry-bc").id == "entry-bc"
    assert store.entry("x").id == "x"
    for wrong in ("entry-", "ent", "nobody", "", "entry-bcd", "%%%%", "____"):
        with pytest.raises(NotFound):
            store.entry(wrong)


def test_exact_finds_any_symptom_the_newest_version_first(store: Store) -> None:
    shared = ("Shared: x", unit(1, 0, 0))
    store.put_entries(
        [
            embedded("a", ("A: x", unit(0, 1, 0)), shared, shared),
            embedded("b", shared),
            embedded("c", ("C: x", unit(0, 1, 0))),
        ],
        SPACE,
        NOW,
    )
    found = store.find_exact(signature("Shared: x").fingerprint)
    assert [(one.entry.id, one.symptom) for one in found] == [("b", 0), ("a", 1)]
    store.put_entries([embedded("a", shared, cause="newer")], SPACE, NOW)
    assert ids(store.find_exact(signature("Shared: x").fingerprint)) == ["a", "b"]
    assert store.find_exact("nothing") == ()


def test_vector_search_finds_symptoms_nearest_first(store: Store) -> None:
    store.put_entries(
        [
            embedded("two", ("A: x", unit(0, 1, 0)), ("A: y", unit(1, 0.2, 0))),
            embedded("one", ("B: x", unit(1, 0.1, 0))),
        ],
        SPACE,
        NOW,
    )
    found = store.find_vector((10, 0, 0), 5)
    assert [(one.entry.id, one.symptom) for one in found] == [("one", 0), ("two", 1), ("two", 0)]
    assert ids(store.find_vector(unit(1, 0, 0), 1)) == ["one"]
    assert store.find_vector(unit(1, 0, 0), 0) == ()
    assert len(store.find_vector(unit(1, 0, 0), 1_000_000)) == 3


@pytest.mark.parametrize("vector", [(0, 0, 0), (float("nan"), 0, 0), (float("inf"), 0, 0)])
def test_a_vector_without_direction_finds_nothing(store: Store, vector: tuple[float, ...]) -> None:
    store.put_entries([embedded("a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    assert store.find_vector(vector, 5) == ()


def test_a_zero_vector_is_never_found(store: Store) -> None:
    store.put_entries([embedded("zero", ("word", (0, 0, 0)))], SPACE, NOW)
    assert store.vector_space() is None
    store.put_entries([embedded("a", ("A: x", unit(-1, 0, 0)))], SPACE, NOW)
    assert ids(store.find_vector(unit(1, 0, 0), 5)) == ["a"]
    assert ids(store.find_text(["word"], 5)) == ["zero"]


def test_vectors_of_two_spaces_never_meet(store: Store) -> None:
    assert store.vector_space() is None
    assert store.find_vector(unit(1, 0, 0), 5) == ()
    store.put_entries([embedded("a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    assert store.vector_space() == SPACE
    for other in (
        VectorSpace("else", 3, 1),
        VectorSpace("test", 2, 1),
        VectorSpace("test", 3, 2),
    ):
        with pytest.raises(EmbedderMismatch) as caught:
            store.put_entries([embedded("b")], other, NOW)
        assert caught.value.hint
    with pytest.raises(EmbedderMismatch):
        store.find_vector((1, 0), 5)
    assert [one.id for one in store.entries()] == ["a"]


@pytest.mark.parametrize(
    "bad",
    [
        embedded("b", ("B: x", (1, 0))),
        embedded("b", ("B: x", (2, 0, 0))),
        embedded("b", ("B: x", (float("nan"), 0, 0))),
        replace(embedded("b", ("B: x", unit(1, 0, 0))), vectors=()),
        embedded("b", ("B: x", unit(1, 0, 0)), params={"x": float("nan")}),
    ],
    ids=["dimensions", "length", "nan", "missing", "params"],
)
def test_a_put_is_all_or_nothing(store: Store, bad: object) -> None:
    good = embedded("a", ("A: x", unit(1, 0, 0)))
    with pytest.raises(ValueError):  # noqa: PT011 (which one it is does not matter)
        store.put_entries([good, bad], SPACE, NOW)  # type: ignore[list-item]
    assert store.entries() == ()
    assert store.vector_space() is None
    assert store.put_entries([good], SPACE, NOW) == PutCounts(added=1)


def test_text_search_ranks_rare_words_first(store: Store) -> None:
    texts = {"a": "timeout db", "b": "timeout api", "c": "timeout disk", "d": "memory"}
    store.put_entries(
        [embedded(name, (text, unit(1, 0, 0))) for name, text in texts.items()], SPACE, NOW
    )
    assert ids(store.find_text(["timeout", "api"], 5))[0] == "b"
    assert set(ids(store.find_text(["timeout", "api"], 5))) == {"a", "b", "c"}
    assert ids(store.find_text(["timeout", "api"], 1)) == ["b"]
    assert store.find_text(["timeout"], 0) == ()
    assert store.find_text(["nowhere"], 5) == ()
    assert store.find_text([], 5) == ()


def test_dotted_names_are_whole_words(store: Store) -> None:
    store.put_entries(
        [embedded("a", ("sqlalchemy.exc.ProgrammingError", unit(1, 0, 0)))], SPACE, NOW
    )
    assert ids(store.find_text(["sqlalchemy.exc.programmingerror"], 5)) == ["a"]
    assert store.find_text(["alchemy"], 5) == ()


@pytest.mark.parametrize(
    "token",
    [
        '"',
        "*",
        "a*",
        "NEAR(a b)",
        "words:a",
        'a" OR "b',
        "-a",
        "^a",
        "a AND b",
        "aa.bb",
        "(",
        "",
        "\ud800",
    ],
)
def test_a_token_is_never_query_syntax(store: Store, token: str) -> None:
    store.put_entries([embedded("a", ("aa bb", unit(1, 0, 0)))], SPACE, NOW)
    assert store.find_text([token], 5) == ()
    assert ids(store.find_text([token, "aa"], 5)) == ["a"]


def test_a_near_one_is_told_with_its_cosine(store: Store) -> None:
    store.put_entries(
        [embedded("a", ("A: x", unit(1, 0, 0))), embedded("b", ("B: x", unit(1, 1, 0)))], SPACE, NOW
    )
    found = store.find_vector([2.0, 0.0, 0.0], 5)
    assert [one.cosine for one in found] == pytest.approx([1.0, math.sqrt(0.5)], abs=1e-6)
    assert [one.cosine for one in store.find_text(["x"], 5)] == [None, None]


# --- another embedder ---------------------------------------------------------------------------

OTHER = VectorSpace("other", 2, 1)


def remade(store: Store, batch: int = 1) -> list[int]:
    """Make all vectors of the other embedder, a batch at a time; the symptoms' numbers."""
    made: list[int] = []
    while wanted := store.unembedded(OTHER, batch):
        store.embed(OTHER, {number: unit(1, 1 + len(made)) for number, _ in wanted})
        made += [number for number, _ in wanted]
    return made


def test_vectors_of_another_embedder_are_made_beside_those_in_use(store: Store) -> None:
    one = embedded("a", ("A: x", unit(1, 0, 0)), ("A: y", unit(0, 1, 0)))
    store.put_entries([one, embedded("b", ("B: x", unit(0, 0, 1)))], SPACE, NOW)
    assert not store.switch_space(OTHER), "nothing was made yet"
    assert [text for _, text in store.unembedded(OTHER, 2)] == ["A: x", "A: y"]
    first, _ = store.unembedded(OTHER, 2)
    store.embed(OTHER, {first[0]: unit(1, 0)})
    assert [text for _, text in store.unembedded(OTHER, 9)] == ["A: y", "B: x"], "it goes on"
    assert not store.switch_space(OTHER), "not all were made"
    assert store.vector_space() == SPACE
    assert [found.entry.id for found in store.find_vector(unit(0, 0, 1), 1)] == ["b"]

    remade(store)
    assert store.switch_space(OTHER)
    assert store.vector_space() == OTHER
    assert store.switch_space(OTHER), "it stays so"
    assert store.unembedded(OTHER, 9) == ()
    assert [found.symptom for found in store.find_vector(unit(1, 0), 1)] == [0]
    with pytest.raises(EmbedderMismatch):
        store.find_vector(unit(0, 0, 1), 1)
    with pytest.raises(EmbedderMismatch):
        store.put_entries([embedded("c", ("C: x", unit(1, 0, 0)))], SPACE, NOW)
    store.put_entries([embedded("c", ("C: x", unit(0, 1)))], OTHER, NOW)
    assert [found.entry.id for found in store.find_vector(unit(0, 1), 1)] == ["c"]


def test_what_comes_meanwhile_is_embedded_too(store: Store) -> None:
    store.put_entries([embedded("a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    remade(store)
    store.put_entries([embedded("b", ("B: x", unit(0, 0, 1)))], SPACE, NOW)
    assert not store.switch_space(OTHER)
    assert len(remade(store)) == 1
    # Somebody who has the new embedder already may add what he knows; its vectors come later.
    store.put_entries([embedded("c", ("C: x", unit(0, 1)))], OTHER, NOW)
    assert {found.entry.id for found in store.find_vector(unit(1, 0, 0), 9)} == {"a", "b"}
    assert len(remade(store)) == 1
    assert store.switch_space(OTHER)
    assert {found.entry.id for found in store.find_vector(unit(1, 0), 9)} == {"a", "b", "c"}


def test_what_is_retired_or_replaced_meanwhile_is_not_found_again(store: Store) -> None:
    names = ["a", "b", "c"]
    store.put_entries([embedded(n, (f"{n}: x", unit(1, 0, 0))) for n in names], SPACE, NOW)
    wanted = store.unembedded(OTHER, 9)
    store.retire_entries(["a"], "me", NOW, "stale")
    store.embed(OTHER, {number: unit(1, 0) for number, _ in wanted})
    store.retire_entries(["b"], "me", NOW, "stale")
    assert store.switch_space(OTHER)
    assert [found.entry.id for found in store.find_vector(unit(1, 0), 9)] == ["c"]


def test_a_vector_without_direction_holds_nothing_up(store: Store) -> None:
    store.put_entries([embedded("a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    [(number, _)] = store.unembedded(OTHER, 9)
    store.embed(OTHER, {number: (0.0, 0.0)})
    assert store.switch_space(OTHER)
    assert store.find_vector(unit(1, 0), 9) == ()


def test_another_embedder_again_gives_up_what_was_begun(store: Store) -> None:
    third = VectorSpace("third", 2, 1)
    store.put_entries([embedded("a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    [(number, _)] = store.unembedded(OTHER, 9)
    assert len(store.unembedded(third, 9)) == 1
    with pytest.raises(EmbedderMismatch):
        store.embed(OTHER, {number: unit(1, 0)})
    assert not store.switch_space(OTHER)
    store.embed(third, {number: unit(1, 0)})
    assert store.switch_space(third)
    assert store.vector_space() == third


def test_asking_for_the_space_in_use_gives_up_what_was_begun(store: Store) -> None:
    store.put_entries([embedded("a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    [(number, _)] = store.unembedded(OTHER, 9)
    assert store.unembedded(SPACE, 9) == ()
    with pytest.raises(EmbedderMismatch):
        store.embed(OTHER, {number: unit(1, 0)})
    assert not store.switch_space(OTHER)
    assert store.vector_space() == SPACE


def test_new_vectors_must_be_those_of_the_space(store: Store) -> None:
    store.put_entries([embedded("a", ("A: x", unit(1, 0, 0)))], SPACE, NOW)
    [(number, _)] = store.unembedded(OTHER, 9)
    for wrong in (unit(1, 0, 0), (3.0, 4.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="new vectors"):
            store.embed(OTHER, {number: wrong})
    assert len(store.unembedded(OTHER, 9)) == 1


def test_an_empty_store_takes_the_new_embedder_at_once(store: Store) -> None:
    assert store.unembedded(OTHER, 9) == ()
    assert store.switch_space(OTHER)
    store.put_entries([embedded("a", ("A: x", unit(0, 1)))], OTHER, NOW)
    assert [found.entry.id for found in store.find_vector(unit(0, 1), 1)] == ["a"]
