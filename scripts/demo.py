"""`make demo`: a real Airflow with real failures, and `aiops` at work on them.

Everything happens in .demo/, which is made anew each time: Airflow's home, the knowledge base,
the settings. Nothing of the user's is read or written. Ends non-zero, and says which promise
broke, if anything did not happen as told (demo_story.py). Ctrl-C stops all that was started.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import FrameType

from scripts.airflow_box import AirflowBox, BoxError
from scripts.demo_story import FIRST, WIDTH, Broken, Stage, tell, waiting

ROOT = Path(__file__).resolve().parent.parent
VERSION = "3.3.2"
LOGIN = "op"  # somebody who operates DAGs, no administrator
INHERITED = ("COLUMNS", "LANG", "LC_ALL", "NO_COLOR", "PATH", "TERM", "TZ")

# Two nights pass within a minute, so the second must not count as the first one come back.
SETTINGS = "relapse_window: 1s\ngate: {vouch_after: 1s}\n"

NEXT = """Airflow is stopped.

Try next:
  make demo KEEP=1   the same, but Airflow stays up, for `aiops triage` by hand
  README.md          your own Airflow: an address, a login, and `aiops doctor`"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Diagnose and repair failures of a real Airflow.")
    parser.add_argument("--keep", action="store_true", help="leave Airflow running at the end")
    keep = parser.parse_args().keep
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    start = time.monotonic()
    folder = ROOT / ".demo"
    box = AirflowBox(
        ROOT / f".envs/airflow-{VERSION}",
        folder / "airflow",
        ROOT / "examples/dags",
        version=VERSION,
    )
    try:
        make_folder(folder)
        try:
            play(box, folder)
            print(f"\nEverything happened as told, in {time.monotonic() - start:.0f} s.")
            if keep:
                left_up(box, folder)
        finally:
            box.stop()
    except (Broken, BoxError) as problem:
        print(f"\nBroken promise: {problem}\n\nIts logs are in {folder}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped, and Airflow with it", file=sys.stderr)
        return 130
    if not keep:
        print(NEXT)
    return 0


def leave(number: int, _: FrameType | None) -> None:
    """A signal that asks to end: leave through every `finally`."""
    raise SystemExit(128 + number)


def make_folder(folder: Path) -> None:
    """An empty folder with the demo's settings. Raises SystemExit where a demo is still at work
    in it, or an Airflow that was kept."""
    owner = folder / "owner.pid"
    if owner.exists():
        pid = owner.read_text()
        command = command_of(pid)
        # The number may be anybody's by now, so look whose it is before somebody ends it.
        if str(folder) in command or "scripts.demo" in command:
            raise SystemExit(f"A demo still runs in {folder}.\nStop it first: kill {pid}")
    if folder.exists():
        shutil.rmtree(folder)
    (folder / "home").mkdir(parents=True)
    owner.write_text(str(os.getpid()))
    (folder / "config.yaml").write_text(SETTINGS)
    # So that the commands read as they would in the project's own folder.
    (folder / "examples").symlink_to(ROOT / "examples")


def command_of(pid: str) -> str:
    """The command line of a process, "" where there is none."""
    if Path("/proc/self/cmdline").exists():  # Linux; a slim image has no ps
        file = Path(f"/proc/{pid}/cmdline")
        return file.read_text(errors="replace").replace("\0", " ") if file.exists() else ""
    listed = subprocess.run(["ps", "-p", pid, "-o", "args="], capture_output=True, text=True)
    return listed.stdout


def play(box: AirflowBox, folder: Path) -> None:
    """Start Airflow, let every DAG run once, and tell the story. Raises Broken or BoxError."""
    intro = (
        f"A real Airflow {VERSION}, DAGs that fail in the ways people meet at night, and aiops at "
        f"work on them. All of it happens in {folder.name}/; nothing of yours is touched."
    )
    print(textwrap.fill(intro, WIDTH))
    with waiting("Airflow is starting"):
        box.start()
    with waiting("every DAG runs once"):
        dags = box.request("GET", "/api/v2/dags?limit=100")["dags"]
        for dag in dags:
            box.trigger(dag["dag_id"], run_id=FIRST)
        for dag in dags:
            box.wait(dag["dag_id"], FIRST)
    tell(Stage(box, folder, environment(box, folder)))


def variables(box: AirflowBox, folder: Path) -> dict[str, str]:
    """What `aiops` is told by its environment."""
    return {
        "AIOPS_AIRFLOW_URL": box.url,
        "AIOPS_AIRFLOW_USERNAME": LOGIN,
        "AIOPS_AIRFLOW_PASSWORD": box.users[LOGIN],
        "AIOPS_CONFIG": str(folder / "config.yaml"),
        "AIOPS_KB": f"sqlite:///{folder / 'knowledge.db'}",
        "AIOPS_USER": "you",
    }


def environment(box: AirflowBox, folder: Path) -> dict[str, str]:
    """All that a command gets to see: no home, no settings and no login but the demo's."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    if not sys.stdout.isatty():
        kept.setdefault("COLUMNS", "80")
    return {**kept, "HOME": str(folder / "home"), **variables(box, folder)}


def left_up(box: AirflowBox, folder: Path) -> None:
    """Say how to go on by hand, and let Airflow outlive us."""
    lines = [
        f"export {name}={shlex.quote(value)}" for name, value in variables(box, folder).items()
    ]
    url, password = box.url, box.users[LOGIN]
    pid = box.keep()
    (folder / "owner.pid").write_text(str(pid))
    print(f"""
Airflow stays up at {url}, login {LOGIN}, password {password}

Go on by hand, in any shell:

{chr(10).join(lines)}
export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"
aiops triage

To stop Airflow (it takes some seconds): kill {pid}""")


if __name__ == "__main__":
    raise SystemExit(main())
