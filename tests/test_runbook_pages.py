"""Runbooks as many hands write them (tests/runbooks): each is read as its table says, or refused
with its line and a reason. A page that asks for no named action must never give one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from knowledge.runbooks import survey
from knowledge.signature import sign

FOLDER = Path(__file__).parent / "runbooks"


class Told(NamedTuple):
    """What one entry must be: its title, the number of its symptoms, its action with its params,
    whether it only suggests, and what it says about running again."""

    title: str
    symptoms: int
    action: str | None
    suggests: bool
    safe: bool | None


def says(title: str, symptoms: int, action: str | None, safe: bool | None = None) -> Told:
    return Told(title, symptoms, action, False, safe)


def suggests(title: str, symptoms: int, action: str | None, safe: bool | None = None) -> Told:
    return Told(title, symptoms, action, True, safe)


PAGES: dict[str, list[Told] | str] = {
    "airflow_json_log.md": [
        suggests("Vendor API without a page token", 1, None),
    ],
    "asciidoc_in_disguise.md": [suggests("OSError: [Errno 28] No space left on device", 1, None)],
    "cause_and_fix_together.md": [
        suggests("Task stuck in queued", 1, None),
    ],
    "caution_by_heading.md": [suggests("The vendor's file is half written", 1, None)],
    "checklist.md": [
        suggests("Reverse ETL to the CRM is rejected", 1, None),
    ],
    "code_is_no_symptom.md": [
        says("Rebuilding the calendar", 1, "none"),
    ],
    "commands_only.md": [
        suggests("Clearing a stuck backfill", 1, None),
    ],
    "comments_and_template.md": [
        suggests("Sync of the HR master data", 1, None),
    ],
    "confluence_export.md": [
        suggests("DATA-RB-17 Nightly GL load fails on currency", 1, None),
    ],
    "confluence_wiki_markup.md": [
        suggests("Batch scoring cannot import its model", 1, None),
    ],
    "console_transcript.md": [
        suggests("dbt cannot parse its profile", 1, None),
    ],
    "crlf_and_tabs.md": [
        suggests("Mainframe download", 1, None),
    ],
    "dags_in_words.md": [
        suggests("Currency rates missing", 1, "retry"),
    ],
    "dags_named.md": [
        suggests("Retention deletes too much", 1, None, safe=False),
    ],
    "diff_and_yaml.md": [
        suggests("Pods are evicted", 1, None),
    ],
    "dutch_and_italian.md": [
        suggests("Voorraadsync", 1, None),
        suggests("Anagrafica fornitori", 1, None),
    ],
    "emoji_and_numbers.md": [
        suggests("📦 Package mirror", 1, "retry"),
    ],
    "english_variants.md": [
        suggests("Geo enrichment: 429 from the geocoder", 1, None),
    ],
    "everything_in_a_list.md": [
        suggests("pymongo.errors.ServerSelectionTimeoutError: No servers found yet", 1, None)
    ],
    "fence_never_closed.md": "3: a fenced block is not closed",
    "fix_with_a_condition.md": [
        suggests("Cube refresh", 1, None),
    ],
    "flat_headings.md": [
        suggests("Dashboard extract: Tableau refuses the login", 1, None),
    ],
    "flat_headings_twice.md": [
        suggests("Model registry answers 500", 1, None),
        suggests("Feature store is read-only", 1, None),
    ],
    "forbidden_below_the_fix.md": [suggests("Fakturor", 1, None, safe=False)],
    "forbidden_by_heading.md": [suggests("Payment batch times out", 1, None, safe=False)],
    "french_fiche.md": [
        suggests("Fiche 12 : export comptable en échec", 1, None),
    ],
    "front_matter_broken.md": "3: not YAML: did not find expected ',' or ']'",
    "front_matter_hugo.md": [
        suggests("Hive metastore timeouts", 1, None),
    ],
    "front_matter_misspelt.md": "2: unknown key `ownr`; did you mean `owner`?",
    "front_matter_toml.md": "1: TOML front matter is not read; write it as YAML between --- lines",
    "german_fehlerbild.md": [
        suggests("Lagerbestand: Schnittstelle antwortet nicht", 1, None),
    ],
    "german_plain.md": [
        suggests("Temporäre Tabelle bleibt liegen", 1, None, safe=False),
    ],
    "german_postmortem.md": [
        suggests("Störung vom 12.01.2024: Preise fehlen im Shop", 1, None),
    ],
    "github_alerts.md": [
        suggests("Container registry pull limit", 1, "retry_later delay=60m"),
    ],
    "github_issue_form.md": [suggests("What happened", 1, None)],
    "google_docs_export.md": [
        suggests("Churn model - on-call notes", 1, None),
    ],
    "hostile.md": [
        suggests("<script>alert(1)</script> [bold]x[/bold]", 1, None),
    ],
    "html_bits.md": [
        suggests("Invoice renderer", 1, None),
    ],
    "html_page_refused.md": "1: an HTML page, not Markdown; export it as Markdown",
    "html_pre.md": [
        suggests("Archive of raw clicks", 1, None),
    ],
    "html_table_refused.md": "3: an HTML table is not read; write it as a Markdown table",
    "incident_review.md": [
        suggests("Incident review 2023-12-08: double bookings", 1, None, safe=False),
    ],
    "jira_markup.md": [suggests("DATA-311 Ledger export fails", 1, None, safe=False)],
    "labels_in_bold.md": [
        suggests("SFTP drop of the clearing house", 1, None),
    ],
    "latin1.md": "1: not UTF-8 text; save it as such",
    "long_symptom_list.md": [
        says("Object store, everything that was ever seen", 3, "retry_later delay=10m"),
    ],
    "misspelt_label.md": "1: no failure in it: it quotes no error and names no cause or fix",
    "mkdocs_admonitions.md": [suggests("Spark job lost its executors", 1, None)],
    "nested_lists.md": [
        suggests("Streaming to lake: compaction", 1, None),
    ],
    "no_structure.md": [
        suggests(
            "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)", 1, None
        ),
    ],
    "no_structure_with_log.md": [
        suggests("notes about the ledger sync", 1, None),
    ],
    "nothing_in_it.md": "1: no failure in it: it quotes no error and names no cause or fix",
    "notion_aside.md": [
        suggests("Vendor prices missing 3f2a9c1e0b7d4c55a1e2f3d4c5b6a7f8", 1, None)
    ],
    "notion_export.md": [
        suggests("Looker PDT build stuck", 1, None),
    ],
    "obsidian_callouts.md": [suggests("SFTP drop", 1, None, safe=False)],
    "old_mac_newlines.md": [suggests("Old mac", 1, None)],
    "oncall_handbook.md": [
        suggests("Airflow cannot fork", 1, None),
        suggests("The pool is full", 1, None),
    ],
    "one_word_action.md": [
        says("Vacuum holds a lock on fact_sales", 1, "retry_later delay=20m", safe=True),
    ],
    "only_a_link.md": "1: no failure in it: it quotes no error and names no cause or fix",
    "only_a_log.md": "1: an entry needs a `cause:` or an `action:`",
    "ops_genie_note.md": [
        suggests("airflow.exceptions.AirflowTaskTimeout: Timeout, PID: 3312", 1, None),
    ],
    "options_under_resolution.md": [
        suggests("dbt run fails on a missing relation", 1, None),
    ],
    "overview_first.md": [
        suggests("Runbook: partner SFTP", 2, None),
    ],
    "pagerduty_alert.md": [
        suggests("[P2] AirflowTaskFailed: vendor price feed", 1, None),
    ],
    "payments_never_again.md": [
        suggests("Bank gateway closes the connection", 1, None, safe=False),
        says("Signature service is busy", 1, "retry_later delay=30m", safe=False),
    ],
    "plain_sentence_action.md": [
        suggests("S3 says slow down", 1, "retry"),
    ],
    "plain_sentence_with_limits.md": [
        suggests("Payments export timed out", 1, None, safe=False),
    ],
    "polish.md": [
        suggests("Import paczek", 1, None),
    ],
    "portuguese.md": [
        suggests("Importação de notas fiscais", 1, None),
    ],
    "postmortem_worker_oom.md": [
        suggests("Postmortem: customer_360 lost its worker (2024-02-17)", 1, None),
    ],
    "problem_solution.md": [
        suggests("the token endpoint is down", 1, "retry_later delay=15m"),
    ],
    "quoted_in_prose.md": [
        suggests("Licences of the ETL tool", 1, None),
    ],
    "readme_with_commands.md": "1: no failure in it: it quotes no error and names no cause or fix",
    "resolution_none_known.md": [
        suggests("Scheduler restarts at full moon", 1, None),
    ],
    "same_title_twice.md": (
        "10: same id or title as runbooks/same_title_twice.md:3; give one of them an id"
    ),
    "secret_in_the_log.md": [
        suggests("Warehouse login", 1, None),
    ],
    "setext_headings.md": [
        suggests("Kafka consumer falls behind", 1, None),
    ],
    "several_bold_titles.md": [
        suggests("Disk of the scratch volume is full", 1, None),
        suggests("Scratch volume is read-only", 1, None),
    ],
    "several_failures_by_heading.md": [
        says("Connection reset by the CDN", 1, "retry"),
        says("Certificate of the CDN expired", 1, "none"),
    ],
    "several_failures_by_label.md": [
        suggests(
            "airflow.exceptions.AirflowSensorTimeout: Sensor has timed out",
            1,
            None,
        ),
        suggests("botocore.exceptions.NoCredentialsError: Unable to locate credentials", 1, None),
        suggests(
            "jinja2.exceptions.UndefinedError: 'dict object' has no attribute 'region'", 1, None
        ),
    ],
    "spanish_procedimiento.md": [
        suggests("Carga de clientes detenida", 1, None),
    ],
    "sre_playbook.md": [suggests("PipelineFreshnessSLOBurn", 1, None)],
    "symptoms_diagnosis_resolution.md": [
        suggests("Orders loader cannot reach its database", 1, None),
    ],
    "symptoms_in_words.md": [
        suggests("Report is empty although everything is green", 2, None),
    ],
    "table_key_value.md": [
        says("RB-31 Snapshot export", 1, "retry_later delay=45m"),
    ],
    "table_of_failures.md": [
        suggests("KeyError: 'cost_center'", 1, None),
        says(
            "FileNotFoundError: [Errno 2] No such file or directory: '/mnt/sap/drop/ledger.csv'",
            1,
            "retry_later delay=1h",
        ),
        says("ValueError: could not convert string to float: '1.234,50'", 1, None),
    ],
    "table_row_without_error.md": "6: a row of a table of failures without an error text",
    "table_with_rerun_column.md": [
        says("psycopg2.errors.LockNotAvailable: could not obtain lock", 1, "retry", safe=True),
        says("stripe.error.CardError: card declined", 1, "retry", safe=False),
        suggests("stripe.error.APIError: try again", 1, None),
        suggests("stripe.error.IdempotencyError: key used", 1, None, safe=False),
    ],
    "tabs_and_screenshots.md": [
        suggests("MicroStrategy cubes", 1, None),
    ],
    "title_is_the_error.md": [
        suggests("ORA-01555: snapshot too old", 1, None),
    ],
    "traceback_as_python.md": [
        suggests("Pandas and the leap day", 1, None),
    ],
    "two_actions.md": [
        suggests("Duplicate files from the scanner", 1, None),
    ],
    "upper_case_labels.md": [
        suggests(
            "java.sql.SQLRecoverableException: IO Error: Unknown host specified",
            1,
            None,
        ),
    ],
    "utf16_from_word.md": "1: not UTF-8 text; save it as such",
    "wait_then_retry_german.md": [
        suggests("Lizenzserver", 1, "retry_later delay=10m"),
    ],
    "wiki_two_columns_log.md": [
        suggests(
            "pandera.errors.SchemaError: non-nullable series 'price' contains null values",
            1,
            None,
        ),
        suggests("AssertionError: 3 rows expected, 0 found", 1, None),
    ],
}


def test_the_table_holds_every_page() -> None:
    assert set(PAGES) == {file.name for file in FOLDER.glob("*.md")}
    assert len(PAGES) >= 60


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_read_as_the_table_says(name: str) -> None:
    reading, wanted = survey([FOLDER / name]), PAGES[name]
    if isinstance(wanted, str):
        (refused,) = reading.refused
        assert reading.entries == ()
        assert refused.message == f"{FOLDER / name}:{wanted}"
        return
    assert [error.message for error in reading.refused] == []
    found = [
        Told(
            entry.title,
            len(entry.symptoms),
            entry.action
            and " ".join([entry.action, *(f"{k}={v}" for k, v in entry.params.items())]),
            entry.suggestion_only,
            entry.safe_to_retry,
        )
        for entry in reading.entries
    ]
    assert found == wanted


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("airflow_json_log.md", "KeyError: 'next_page_token'"),
        ("console_transcript.md", 'Runtime Error\n  Credentials in profile "warehouse", target'),
        ("google_docs_export.md", "ValueError: Input X contains NaN."),
        ("html_bits.md", "weasyprint.urls.URLFetchingError: URLError: <urlopen error [Errno -2]"),
        ("html_pre.md", "pyarrow.lib.ArrowInvalid: Could not open Parquet input source '<Buffer>'"),
        ("german_postmortem.md", "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xe4"),
        ("no_structure.md", "json.decoder.JSONDecodeError: Expecting value"),
        ("quoted_in_prose.md", "License checkout failed: all 20 seats are in use"),
        ("setext_headings.md", "confluent_kafka.error.ConsumeError: KafkaError{code=_MAX_POLL"),
    ],
)
def test_the_error_itself_is_the_symptom(name: str, error: str) -> None:
    (entry,) = survey([FOLDER / name]).entries
    first = entry.symptoms[0]
    assert first.text.startswith(error) or first.signature.text == error
    assert first.signature == sign(first.text)


@pytest.mark.parametrize(
    ("name", "owner", "edited"),
    [
        ("one_word_action.md", "data-platform", "2024-03-11"),
        ("confluence_export.md", "GL squad", "2024-03-04"),
        ("notion_export.md", "Priya", "May 2, 2024 9:14 AM"),
        ("front_matter_hugo.md", "lakehouse", "2024-01-30"),
        ("german_fehlerbild.md", "Team Lager", "2023-11-20"),
        ("french_fiche.md", "équipe compta", "2024-01-15"),
        ("pagerduty_alert.md", "market-data-oncall", None),
        ("no_structure.md", None, None),
    ],
)
def test_owner_and_date_are_the_pages_own(name: str, owner: str | None, edited: str | None) -> None:
    (entry,) = survey([FOLDER / name]).entries
    assert (entry.owner, entry.edited) == (owner, edited)


def test_what_is_advised_is_kept_in_its_words_and_order() -> None:
    (page,) = survey([FOLDER / "options_under_resolution.md"]).entries
    assert page.explanation.split("\n") == [
        "Option A: wait for the loader",
        "It is done by five.",
        "Option B: point the source at the new name",
        "Change sources.yml and merge.",
    ]
    assert page.cause.startswith("the loader has not run yet\nLook at the loader's DAG.")
    (commands,) = survey([FOLDER / "commands_only.md"]).entries
    assert "airflow tasks clear sales_daily" in commands.explanation


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("caution_by_heading.md", "Not on the last day of the month."),
        ("forbidden_by_heading.md", "NEVER RERUN BEFORE FINANCE HAS CONFIRMED"),
        ("jira_markup.md", "- Do not rerun before that"),
        ("mkdocs_admonitions.md", "Not on the last day of the month."),
        ("obsidian_callouts.md", "Never rerun"),
        ("table_with_rerun_column.md", "Safe to retry: only with finance"),
    ],
)
def test_what_limits_a_fix_is_shown_beside_it(name: str, words: str) -> None:
    entries = survey([FOLDER / name]).entries
    assert any(words in entry.explanation for entry in entries)


def test_which_dags_is_kept_as_a_list_or_as_words() -> None:
    (named,) = survey([FOLDER / "dags_named.md"]).entries
    assert named.dags == ("retention_daily", "retention_weekly")
    (words,) = survey([FOLDER / "dags_in_words.md"]).entries
    assert words.dags == ()
    assert "DAGs: everything that reads rates" in words.explanation
    assert "Safe to retry: yes, if the rates are there" in words.explanation
    assert words.suggestion_only


def test_no_page_leaks_a_secret() -> None:
    told = repr(survey([FOLDER / "secret_in_the_log.md"]).entries)
    assert "Sommer2024" not in told
    assert "<redacted:password>" in told


def test_all_of_them_at_once_are_read_whatever_is_beside_them() -> None:
    reading = survey([FOLDER])
    refused = [name for name, wanted in PAGES.items() if isinstance(wanted, str)]
    # In a folder, what tells of no failure is left out rather than refused.
    left_out = {Path(file).name for file, _ in reading.left_out}
    assert left_out == {
        "misspelt_label.md",
        "nothing_in_it.md",
        "only_a_link.md",
        "readme_with_commands.md",
    }
    assert len(reading.refused) == len(refused) - len(left_out)
    assert len(reading.entries) == sum(
        len(wanted) for wanted in PAGES.values() if isinstance(wanted, list)
    )
