"""Addresses of Airflow's UI, as people paste them, → TaskRef. Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from aiops_cli.errors import UsageError
from aiops_cli.incidents import UNMAPPED, TaskRef

_PAGE = re.compile(
    r"/dags/(?P<dag>[^/]+)/runs/(?P<run>[^/]+)/tasks/(?:group/[^/]+/)?(?P<task>[^/]+)"
    r"(?:/mapped/(?P<index>\d+))?"
)


def parse_link(link: str, base_url: str) -> TaskRef:
    """The task instance that an address of this Airflow's UI shows. Raises UsageError for another
    server's address and for a page that shows no task instance."""
    shown, base = urlsplit(link), urlsplit(base_url)
    if (shown.hostname, shown.port) != (base.hostname, base.port):
        raise UsageError(
            f"{shown.netloc} is not the Airflow in use ({base.netloc})",
            "choose the right one with --instance, or paste an address of this one",
        )
    page = _PAGE.search(shown.path)
    if page is None:
        raise UsageError(
            "the address shows no task instance", "open the failed task in Airflow and copy its URL"
        )
    return TaskRef(
        unquote(page["dag"]),
        unquote(page["run"]),
        unquote(page["task"]),
        int(page["index"]) if page["index"] else UNMAPPED,
    )
