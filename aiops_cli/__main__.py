"""The `aiops` command: `aiops` and `python -m aiops_cli` start here."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; always ends in SystemExit with the exit code."""
    if sys.argv[1:] == ["--version"]:  # before typer, which takes five times as long
        from aiops_cli import __version__

        print(f"aiops {__version__}")  # noqa: T201 -- all other printing is commands.output's
        sys.exit()
    try:
        from aiops_cli.main import app
    except KeyboardInterrupt:  # the error boundary is not there yet
        sys.exit(130)
    app()


if __name__ == "__main__":
    main()
