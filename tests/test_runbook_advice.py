"""Prose becomes an action only where it can be taken in one way; anything else stays advice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.records import ACTIONS, Entry
from knowledge.runbooks import survey
from knowledge.runbooks.advice import Against, against, structured, understood
from knowledge.runbooks.samples import from_words
from knowledge.runbooks.words import meta_of, role_of


@pytest.mark.parametrize(
    ("text", "action", "params"),
    [
        ("Retry.", "retry", {}),
        ("Please just re-run the failed task in the Airflow UI!", "retry", {}),
        ("- Clear the task", "retry", {}),
        ("Den Task neu starten.", "retry", {}),
        ("Relancer la tâche", "retry", {}),
        ("Retry after 20 minutes", "retry_later", {"delay": "20m"}),
        ("Wait about 2 hours, then clear the task.", "retry_later", {"delay": "2h"}),
        ("10 Minuten warten, dann den Task neu starten", "retry_later", {"delay": "10m"}),
    ],
)
def test_a_plain_wish_is_understood(text: str, action: str, params: Mapping[str, str]) -> None:
    assert understood(text, Against.NOTHING) == (action, params)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Clear it",  # what?
        "Restart the database",
        "Clear the DAG run",  # runs tasks again that succeeded
        "Rerun the task before 05:00",
        "Rerun the task if the vendor agrees",
        "Do not rerun the task",
        "Retry unless it is month end",
        "First check the balance. Rerun the task",
        "Rerun the task, then call finance",
        "Rerun the upstream task",
        "Reran the task",
        "We could retry the task",
        "Retry the task?",
        "Do you want to retry?",
        "Wait for the loader, then retry",
        "Nicht neu starten",
        "Task neu starten, aber erst ab 6 Uhr",
        "~~Rerun the task~~",
    ],
)
def test_whatever_says_more_or_less_is_advice(text: str) -> None:
    assert understood(text, against(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "Never rerun this task.",
        "do NOT simply retry it",
        "Don’t clear the task while the bank is closed",
        "It must not be rerun without finance",
        "Bitte nicht einfach neu starten!",
        "Ne jamais relancer sans accord",
        "No reintentar",
        "It is not safe to re-run",
        "Rerunning the task is forbidden.",
        "Reruns are prohibited",
        "Under no circumstances may the task be rerun.",
        "It must **never** be run again.",
        "Do not\nclear this task",
        "Month end\nNO RERUN\nAsk finance",
        "This job is not idempotent.",
        "Avoid re-running this.",
        "Der Task darf auf keinen Fall neu gestartet werden.",
        "Ein Neustart ist verboten.",
        "Il ne faut pas relancer la tâche.",
        "Ne relancez jamais la tâche",
        "Está prohibido reintentar.",
        "Nunca volver a lanzar la tarea",
        "Nunca execute novamente.",
        "Non rieseguire mai il task.",
        "Niet opnieuw uitvoeren!",
        "Nie uruchamiaj ponownie.",
        "Não executar de novo",
        "No ejecutar otra vez",
        "Non eseguire di nuovo",
        "Ne pas exécuter à nouveau",
        "🚫 rerun",
    ],
)
def test_a_word_against_running_again_is_heard(text: str) -> None:
    assert against(text) is Against.OUTRIGHT
    assert understood("Rerun the task", against(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "There are no retries left.",
        "It does not restart by itself.",
        "Airflow did not retry it.",
        "Do not call the vendor; rerun the task.",
        "Nicht vergessen: Task neu starten",
        "Do not restart the scheduler.",
        "Clear the cache; do not clear the bucket.",
        "Never repeat the password in a ticket.",
        "It does not matter how often it is rerun.",
        "There is no retry configured.",
        "❌ The retry failed",
        "Executar de novo a tarefa",
    ],
)
def test_a_no_to_something_else_is_none(text: str) -> None:
    assert against(text) is not Against.OUTRIGHT


@pytest.mark.parametrize(
    "text",
    [
        "Only rerun after finance has confirmed.",
        "Re-running it pays the suppliers twice.",
        "The second retry makes it worse",
        "Erst nach Rücksprache neu starten",
        "Relancer seulement après 6 h",
        "Rerunning will send the e-mails a second time",
        "A retry duplicates the payments",
        "Rerun requires finance's approval",
        "dont rerun it",
        "Do not redo the load",
        "Do not resubmit the job",
        "Restarting is harmful",
        "Can I rerun it? No way",
        "Can I rerun it?\nNo",
        "Idempotent? No",
        "Task must be run only once per day",
        "It may run at most once",
        "Der Task darf nur einmal am Tag laufen",
        "The restart loses data",
        "A rerun overwrites the balances",
        "Retries are disabled on purpose",
        "Retries were turned off deliberately",
        "❌ rerun",
    ],
)
def test_what_may_limit_running_again_leaves_advice(text: str) -> None:
    said = against(f"It happens.\n{text}\nCall us.")
    assert said is Against.PERHAPS
    assert understood("Rerun the task", said) is None


@pytest.mark.parametrize(
    "text",
    [
        "It is safe to rerun.",
        "Do not panic; rerun the task.",
        "The task runs once a day.",
        "The session loses its connection.",
    ],
)
def test_what_limits_nothing_leaves_the_action(text: str) -> None:
    assert understood("Rerun the task", against(text)) == ("retry", {})


@given(st.text(max_size=60), st.text(max_size=60))
def test_only_two_actions_are_ever_read_out_of_prose(text: str, around: str) -> None:
    found = understood(text, against(around))
    assert found is None or found[0] in ("retry", "retry_later")
    exact = structured(text)
    assert exact is None or exact[0] in ACTIONS


@pytest.mark.parametrize(
    ("heading", "role"),
    [
        ("Symptoms", "symptoms"),
        ("## 🔥 **Symptom(s)**:", "symptoms"),
        ("1. Error Message", "symptoms"),
        ("Symptoms / Error logs", "symptoms"),
        ("Symptoms & Diagnosis", "symptoms"),
        ("Mögliche Ursachen", "cause"),
        ("Root-Cause Analysis", "cause"),
        ("Cause 2", "cause"),
        ("Cause and Fix", "action"),
        ("Step 3: Resolution", "action"),
        ("Was tun?", "action"),
        ("¿Qué hacer?", "action"),
        ("Action Items", "aside"),
        ("What went wrong", "aside"),
        ("Impact", "context"),
        ("Errors we have known and loved", None),
        ("Fixed assets", None),
        ("Orders and Resolution", None),
        ("", None),
    ],
)
def test_a_heading_plays_its_part_only_as_a_whole(heading: str, role: str | None) -> None:
    assert role_of(heading) == role


def test_no_word_has_two_meanings() -> None:
    from knowledge.runbooks import words

    both = [*words._ROLES.values(), *words._META.values()]
    told = [word for text in both for word in {" ".join(w.split()) for w in text.split(",")}]
    assert sorted({word for word in told if told.count(word) > 1}) == []
    assert all(role_of(word) or meta_of(word) for word in told)


def test_the_error_is_found_in_a_sentence_and_a_command_is_none() -> None:
    assert from_words("it says `KeyError: 'x'` after `airflow tasks clear x`") == ["KeyError: 'x'"]
    assert from_words('the log has "connection refused by db-1"') == ["connection refused by db-1"]
    assert from_words("see `/var/log/errors.log` and `error_count`") == []
    assert from_words("the errors failed to be exceptional") == []


# ---- pages ----


def read(folder: Path, text: str) -> tuple[Entry, ...]:
    file = folder / "a.md"
    file.write_text(text)
    return survey([file]).checked().entries


def test_samples_below_an_action_are_no_symptoms(tmp_path: Path) -> None:
    (entry,) = read(
        tmp_path,
        "# T\n```\nKeyError: 'a'\n```\nFix: do this until you see\n\n```\nValueError: b c\n```\n",
    )
    assert [symptom.text for symptom in entry.symptoms] == ["KeyError: 'a'"]
    assert "ValueError: b c" in entry.explanation


@pytest.mark.parametrize("fix", ["~~Rerun the task~~", "<del>Rerun the task</del>"])
def test_what_was_struck_out_is_no_advice(tmp_path: Path, fix: str) -> None:
    (entry,) = read(tmp_path, f"# T\n`ValueError: a is bad`\n\nCause: it ends.\n\nFix: {fix}\n")
    assert entry.action is None


@pytest.mark.parametrize("remark", ["do not use", "obsolete", "staging only"])
def test_a_remark_behind_the_heading_of_a_fix_leaves_it_to_a_person(
    tmp_path: Path, remark: str
) -> None:
    text = f"# T\n`ValueError: a is bad`\n\n## Fix ({remark})\n\nRerun the task.\n"
    (entry,) = read(tmp_path, text)
    assert (entry.action, "Rerun the task." in entry.explanation) == (None, True)


@pytest.mark.parametrize("advice", ["Rerun the task.", "retry", "`retry_later delay=5m`"])
@pytest.mark.parametrize(
    "page",
    [
        "Fix (staging only): {}",
        "- **Fix (staging only):** {}",
        "**Fix (do not use)**\n{}",
        "## Fix (do not use)\n\n{}",
        "## ~~Fix~~\n\n{}",
        "## 🚫 Fix\n\n{}",
        "## Fix (do not use): {}",
        "## Fix\n\nAction (staging only): {}",
        "## Fix (do not use)\n\nAction: {}",
        "## Fix (do not use)\n\n### Steps\n\n{}",
        "## Cause (do not rerun)\n\nIt ends.\n\n## Fix\n\n{}",
        "| Fix (staging only) | {} |\n|---|---|\n| Cause | it ends |",
        "| Error | Fix (staging only) |\n|---|---|\n| `ValueError: a is bad` | {} |",
    ],
)
def test_a_remark_beside_a_label_or_heading_outdoes_a_code_word(
    tmp_path: Path, page: str, advice: str
) -> None:
    entries = read(tmp_path, f"# T\n`ValueError: a is bad`\n\n{page.format(advice)}\n")
    assert [entry.action for entry in entries if entry.action] == []
    assert advice.strip("`") in entries[-1].explanation.replace("`", "")


@pytest.mark.parametrize("advice", ["retry", "retry_later delay=5m"])
@pytest.mark.parametrize("heading", ["# T, DO NOT RERUN\n", "# DO NOT RERUN\n\n## T\n"])
def test_a_heading_against_a_rerun_outdoes_a_code_word(
    tmp_path: Path, heading: str, advice: str
) -> None:
    (entry,) = read(tmp_path, f"{heading}`ValueError: a is bad`\n\nFix: {advice}\n")
    assert (entry.action, entry.safe_to_retry) == (None, False)
    assert advice in entry.explanation


def test_a_heading_that_limits_a_rerun_outdoes_a_code_word(tmp_path: Path) -> None:
    text = "# T (rerun only after finance)\n`ValueError: a is bad`\n\nFix: retry\n"
    (entry,) = read(tmp_path, text)
    assert (entry.action, entry.safe_to_retry) == (None, None)


def test_a_heading_against_a_rerun_leaves_what_runs_nothing(tmp_path: Path) -> None:
    text = "# T, DO NOT RERUN\n`ValueError: a is bad`\n\nFix: mark_skipped\n"
    (entry,) = read(tmp_path, text)
    assert (entry.action, entry.safe_to_retry) == ("mark_skipped", False)


def test_the_remark_is_shown_with_the_advice(tmp_path: Path) -> None:
    text = "# T\n`ValueError: a is bad`\n\n**Fix (staging only):** Rerun the task.\n"
    (entry,) = read(tmp_path, text)
    assert "Fix (staging only): Rerun the task." in entry.explanation


@pytest.mark.parametrize(
    "label", ["Fix", "Action(s)", "[Fix](https://wiki.example.com/fix)", "Fix (1)", "**Fix**"]
)
def test_a_label_without_a_remark_keeps_its_code_word(tmp_path: Path, label: str) -> None:
    (entry,) = read(tmp_path, f"# T\n`ValueError: a is bad`\n\n## {label}\n\nretry\n")
    assert entry.action == "retry"


def test_a_remark_beside_safe_to_retry_makes_it_no_plain_yes(tmp_path: Path) -> None:
    text = "# T\n`ValueError: a is bad`\n\nSafe to retry (staging only): yes\n\nCause: it ends.\n"
    (entry,) = read(tmp_path, text)
    assert entry.safe_to_retry is None
    assert 'Safe to retry: yes ("Safe to retry (staging only)")' in entry.explanation


def test_a_word_at_the_top_of_the_page_holds_for_all_of_it(tmp_path: Path) -> None:
    text = "# All\n\nOwner: ana\n\nNever rerun anything here.\n\n"
    text += "".join(f"## {n}\n`ValueError: {n} is bad`\n\nFix: Rerun the task.\n\n" for n in "ab")
    for entry in read(tmp_path, text):
        assert (entry.action, entry.safe_to_retry, entry.owner) == (None, False, "ana")


def test_any_no_outdoes_a_yes_for_the_whole_file(tmp_path: Path) -> None:
    text = "---\nsafe_to_retry: true\n---\n"
    text += "# A\n`ValueError: a is bad`\n\nCause: it never ends. Do not run it again.\n\n"
    text += "# B\n`ValueError: b is bad`\n\nFix: Rerun the task.\n"
    assert [entry.safe_to_retry for entry in read(tmp_path, text)] == [False, True]


def test_a_pages_text_is_kept_within_bounds(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, f"# T\n`KeyError: 'a'`\n\n{'many words ' * 1000}\n")
    assert len(entry.explanation) < 2_100
    assert entry.explanation.endswith("… (cut)")


def test_a_hard_wrapped_paragraph_over_a_rule_is_no_heading(tmp_path: Path) -> None:
    (entry,) = read(tmp_path, "# T\n`KeyError: 'a'`\n\nIt happens.\n---\n\nCause: b\n")
    assert (entry.title, entry.cause) == ("T", "b")
    assert "It happens." in entry.explanation


@pytest.mark.parametrize(
    "piece",
    ["<b ", "|", "`a ", "**a", "“a b ", "a: ", "[", "![a](", "# a\n", "- a\n", "```\nx\n```\n"],
)
def test_reading_takes_time_in_proportion(tmp_path: Path, piece: str) -> None:
    def seconds(times: int) -> float:
        file = tmp_path / "a.md"
        file.write_text("# T\nCause: c\n\n" + piece * times)
        best = 9e9
        for _ in range(3):
            start = time.perf_counter()
            survey([file])
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(6_000) / seconds(750) < 32  # 8 if linear, 64 if quadratic


def test_many_failures_below_much_text_take_time_in_proportion(tmp_path: Path) -> None:
    def seconds(times: int) -> float:
        failures = (f"## F{n}\n`ValueError: {n} is bad`\n\nFix: call us\n" for n in range(times))
        file = tmp_path / "a.md"
        file.write_text("# T\n" + "never run dry\n\n" * 40 * times + "".join(failures))
        start = time.perf_counter()
        survey([file])
        return time.perf_counter() - start

    seconds(5)
    assert seconds(400) / seconds(50) < 32  # 8 if linear, 64 if quadratic


PIECES = st.sampled_from(
    ["# T\n", "## Symptoms\n", "Fix: retry\n", "Cause: c\n", "```\n", "ValueError: x y\n", "\n",
     "| Error | Fix |\n|---|---|\n", "| `KeyError: 'a'` | b |\n", "- item\n", "  more\n", "> q\n",
     "**Bold**\n", "===\n", "---\n", "<pre>\n", "</pre>\n", "<!--\n", "-->\n", "{code}\n",
     "h2. Fix\n", "    code\n", "Owner: a\n", "DAGs: a, b\n", "Safe to retry: perhaps\n",
     "“it failed to run”\n"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join))
def test_any_page_is_read_refused_or_left_out_and_the_same_again(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "page.md"
    file.write_text(text)
    reading = survey([file])
    assert reading.entries or reading.refused
    for error in reading.refused:
        assert error.message.startswith(f"{file}:")
    for entry in reading.entries:
        assert entry.title
        assert all(symptom.text for symptom in entry.symptoms)
        assert entry.action in (None, "retry")  # the one that some of the pieces name
    again = survey([file])
    assert [entry.id for entry in again.entries] == [entry.id for entry in reading.entries]
