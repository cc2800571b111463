"""The commands that docs/knowledge-base.md shows for backup and restore do what it says."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import closing
from pathlib import Path

from knowledge.stores import open_store
from knowledge.stores.sqlite import SqliteStore
from tests.postgres_database import Database, made, new_name, with_login
from tests.postgres_server import VERSION, wheel_folder
from tests.samples import NOW, added, fill, incident, unit

PAGE = Path(__file__).parent.parent / "docs" / "knowledge-base.md"


def shown(*words: str) -> list[str]:
    """The commands of the page's section on backups that have one of these words."""
    section = PAGE.read_text(encoding="utf-8").partition("## Backup and restore")[2]
    commands = re.findall(r"^\$ (.*)$", section.partition("\n## ")[0], re.MULTILINE)
    found = [command for command in commands if any(word in command for word in words)]
    assert found
    return found


def run(command: str, folder: Path, **environ: str) -> None:
    path = f"{wheel_folder() / VERSION / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), **environ},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_file_in_use_is_copied_and_put_back(tmp_path: Path) -> None:
    backup, *restore = shown("sqlite3", "rm -f", "cp ")
    with closing(SqliteStore.open(str(tmp_path / "knowledge.db"))) as store:
        fill(store)
        run(backup, tmp_path)
        added(store, incident(7))
        before = store.audit_head()
    assert (tmp_path / "knowledge.db").exists()
    for command in restore:
        run(command, tmp_path)
    with closing(SqliteStore.open(str(tmp_path / "knowledge.db"))) as store:
        assert store.audit_verify([before]).faults == ()
        assert store.known_incidents([incident(0).id, incident(7).id]) == {incident(0).id}
        assert [found.entry.id for found in store.find_vector(unit(1, 0, 0), 1)] == ["entry-b"]
        added(store, incident(8))


def test_a_postgres_is_dumped_and_restored_elsewhere(
    postgres: str, database: Database, empty_template: str, tmp_path: Path
) -> None:
    dump, restore = shown("pg_dump", "pg_restore")
    with closing(open_store(database.app)) as store:
        fill(store)
        run(dump, tmp_path, OWNER=database.owner)
        before = store.audit_head()
    with made(postgres, new_name(), empty_template) as other:
        run(restore, tmp_path, RESTORED=with_login(postgres, other.name, "aiops_owner"))
        with closing(open_store(other.app)) as store:
            assert store.audit_verify([before]).faults == ()
            assert [found.entry.id for found in store.find_vector(unit(1, 0, 0), 1)] == ["entry-b"]
            added(store, incident(8))
            assert store.case(incident(8).id).incident.seen_at > NOW
