"""`aiops dashboard` in a real browser, against a real Airflow: a click, and the task turns green.

The pictures in docs/ come from here: UPDATE_PICTURES=1 make e2e.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image

from scripts.airflow_box import AirflowBox, free_port
from tests.e2e.browser import ROOT, SECONDS, Browser, browser, programs
from tests.e2e.conftest import VERSIONS
from tests.e2e.forwarded import Named
from tests.e2e.test_aiops import DAGS, OnCall, parsed

pytestmark = [
    pytest.mark.skipif(
        programs() is None,
        reason="not run: there is no Chromium, and scripts/chromium.sh could not get it",
    ),
    pytest.mark.parametrize("airflow", VERSIONS[:1], indirect=True),
]

WIDE, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module", autouse=True)
def _own_dags(airflow: AirflowBox) -> None:
    shutil.copy(DAGS / "e2e_repairs.py", airflow.dags / "e2e_repairs.py")
    airflow.until("the tests' DAGs are parsed", lambda: parsed(airflow), 120)


@pytest.fixture
def ana(airflow: AirflowBox, tmp_path: Path) -> OnCall:
    return OnCall(airflow, tmp_path)


@contextmanager
def served(ana: OnCall, *options: str) -> Iterator[int]:
    """The port of a dashboard that runs as its own process."""
    port = free_port()
    log = ana.folder / "dashboard.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            [sys.executable, "-m", "aiops_cli", "dashboard", f"--port={port}", *options],
            env=ana.environment(),
            cwd=ana.folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            end = time.monotonic() + SECONDS
            while not _answers(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()
    assert "Traceback" not in log.read_text(), log.read_text()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/_stcore/health").is_success
    except httpx.TransportError:
        return False


def picture(window: Browser, name: str, size: tuple[int, int], below: str = "") -> None:
    """For the docs, in few colours: they are small then. `below` is the heading to begin with:
    what the log says above it has this machine's folders in it."""
    if not os.environ.get("UPDATE_PICTURES"):
        return
    window.size(*size)
    if below:
        window.scroll(f"//h3[normalize-space()={below!r}]")
    time.sleep(1)  # fonts and fading; no test rests on it
    shot = Image.open(io.BytesIO(window.screenshot())).convert("RGB")
    few = shot.quantize(64, dither=Image.Dither.NONE)
    few.save(ROOT / "docs" / f"dashboard-{name}.png", optimize=True)


def test_a_click_and_the_task_turns_green(ana: OnCall) -> None:
    """Edited first, then with one click; the acting person is the one whom the proxy names."""
    # What is approved here fails again within minutes, and is another failure, no relapse.
    ana.configure(relapse_window="1s", gate={"vouch_after": "1s"})
    run_id, first = ana.failure("e2e_flaky", "load")
    header = "X-Forwarded-User"
    with (
        served(ana, "--user-header", header) as port,
        Named(port, header, "ben") as proxy,
        browser(ana.folder) as window,
    ):
        window.size(*WIDE)
        window.open(proxy.url)
        window.see("you decide as ben", "e2e_flaky.load", "waiting for a person: 1")
        window.button("Open")
        window.see("Traceback", "What yes would do", "retry_later e2e_flaky.load")

        # The list is made anew every few seconds; what is being typed stays.
        window.unfold("Reject")
        window.type("Why it is wrong", "half a sente")
        ana.failure("e2e_bug", "total")
        window.see("e2e_bug.total", "waiting for a person: 2")
        assert window.value("Why it is wrong") == "half a sente"

        window.unfold("Do something else")
        window.pick("Action", "retry")
        window.pick("May run again", "this task, whatever fails")
        window.type("Cause, for next time", " It restarts at night.")
        window.button("Show what it would do")
        window.see("then what it blocked: publish", "retry e2e_flaky.load")
        assert ana.counted("e2e_flaky", run_id, "load") == 1
        window.button("Approve")
        window.see("runs again; aiops watch --once tells how it ends", "approved by ben")
        assert ana.settled(first["incident"])["outcome"] == "fixed"
        assert ana.box.wait("e2e_flaky", run_id) == "success"
        assert ana.box.task_states("e2e_flaky", run_id)["load"] == "success"
        window.see("resolved · retry approved by ben")  # by itself

        run_id, second = ana.failure("e2e_flaky", "load")
        window.open(f"{proxy.url}/?incident={second['incident']}")
        window.see("1 on this task", "retry e2e_flaky.load", "no grant covers retry")
        picture(window, "incident", (1280, 1000), below="What it is")
        window.size(*WIDE)
        window.button("Approve")
        window.see("runs again")
        settled = ana.settled(second["incident"])
        assert (settled["status"], settled["decided"]["by"]) == ("resolved", "ben")
        assert ana.box.wait("e2e_flaky", run_id) == "success"
        assert ana.counted("e2e_flaky", run_id, "load") == 2

        _a_stale_page(ana, window, proxy.url)
        _done_alone(ana, window, proxy.url)
        _every_page(window, proxy.url)


def _a_stale_page(ana: OnCall, window: Browser, url: str) -> None:
    """Somebody else was faster: the page says so, and a click does nothing more."""
    run_id, third = ana.failure("e2e_flaky", "load")
    window.open(f"{url}/?incident={third['incident']}")
    window.see("Approve", "What yes would do")
    ana.run("approve", third["incident"], "--yes")
    window.see("This has changed since the page was made.", "approved by ana")
    window.button("Approve")
    window.gone("What yes would do")
    assert ana.settled(third["incident"])["decided"]["by"] == "ana"
    assert ana.counted("e2e_flaky", run_id, "load") == 2


def _done_alone(ana: OnCall, window: Browser, url: str) -> None:
    """What a grant covers waits for nobody, but in a pause or while somebody is in there, and the
    page says so."""
    ana.run("auto", "grant", "--actions", "retry", "--dags", "e2e_*")
    ana.run("pause", "--reason", "a migration")
    ana.run("hold", "e2e_flaky", "--reason", "restoring it")
    _, fourth = ana.failure("e2e_flaky", "load")
    ana.run("watch", "--once", "--auto")
    window.open(url)
    window.see("paused by ana: a migration", "held by ana", ": restoring it · proposes retry")
    ana.run("resume")
    ana.run("hold", "e2e_flaky", "--release")
    ana.run("watch", "--once", "--auto")
    window.gone("paused by ana")  # by itself
    settled = ana.settled(fourth["incident"])
    assert (settled["outcome"], settled["decided"]["kind"]) == ("fixed", "auto")


def _every_page(window: Browser, url: str) -> None:
    """At two widths, light and dark; nothing sticks out, and nothing comes from elsewhere."""
    pages = {
        "queue": ("", "waiting for a person"),
        "overview": ("overview", "Wrong acts"),
        "history": ("history", "e2e_flaky.load"),
        "knowledge": ("knowledge", "your own first"),
    }
    for size, dark in ((WIDE, False), (PHONE, True)):
        window.size(*size)
        window.dark(dark)
        for name, (path, words) in pages.items():
            window.open(f"{url}/{path}")
            window.see(words)
            wide = "return document.documentElement.scrollWidth"
            assert window.run(wide) <= size[0], (name, size)
            others = window.run(
                "return performance.getEntriesByType('resource').map(one => one.name)"
                ".filter(name => !name.startsWith(arguments[0]))",
                url,
            )
            assert others == [], name
            if (name, dark) == ("overview", False):
                window.see("Resolved alone", "retry fixed 4 of 4")
                window.element("//*[@data-testid='stVegaLiteChart']//*[name()='svg']")
                picture(window, "overview", WIDE)
            elif (name, dark) == ("queue", True):
                picture(window, "phone", (390, 480))
                window.size(*size)


def test_a_page_of_another_site_gets_no_connection(ana: OnCall) -> None:
    """Neither by its own name nor by one that it has made to lead here."""
    with served(ana, "--read-only") as port:

        def asked(host: str, origin: str) -> int:
            headers = {
                "Host": host,
                "Origin": origin,
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            }
            url = f"http://127.0.0.1:{port}/_stcore/stream"
            with httpx.stream("GET", url, headers=headers) as answer:
                return answer.status_code

        own = f"127.0.0.1:{port}"
        assert asked(own, f"http://{own}") == 101
        assert asked(own, "https://evil.example") == 403
        assert asked(f"evil.example:{port}", f"http://evil.example:{port}") == 403
