"""`aiops dashboard`: the queue in a browser."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiops_cli.commands import settings
from aiops_cli.commands.output import console
from aiops_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parents[1] / "dashboard" / "app.py"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

# Every one that matters is named: a flag overrides what a .streamlit/config.toml in the folder
# says, and such a file may come with a cloned repository.
_FLAGS = {
    "server.headless": "true",  # opens no browser and asks for no mail address
    "server.fileWatcherType": "none",
    "server.runOnSave": "false",
    "server.enableCORS": "true",  # keeps other sites' pages out of the connection
    "server.enableXsrfProtection": "true",
    "server.enableStaticServing": "false",
    "server.enableAgentApi": "false",
    "server.maxUploadSize": "1",
    "browser.gatherUsageStats": "false",  # they would leave the house
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "logger.level": "warning",
    "logger.hideWelcomeMessage": "true",
    "theme.baseRadius": "medium",
    "theme.light.primaryColor": "#0b62c4",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f2f5f8",
    "theme.light.textColor": "#1b1f24",
    "theme.light.borderColor": "#d1d9e0",
    "theme.dark.primaryColor": "#4a94f0",
    "theme.dark.backgroundColor": "#14181d",
    "theme.dark.secondaryBackgroundColor": "#1e242b",
    "theme.dark.textColor": "#e6eaef",
    "theme.dark.borderColor": "#38414b",
}


def dashboard(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 8501,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything, decide nothing.")
    ] = False,
    user_header: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The header in which a reverse proxy names the acting person."
        ),
    ] = None,
    public_host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="The name by which browsers reach the reverse proxy."),
    ] = None,
) -> None:
    """Serve the queue, the history and the knowledge base to a browser, until Ctrl-C. Who can
    reach it may decide, unless --read-only is given: it asks for no login of its own."""
    from aiops_cli import services

    chosen = settings(ctx, unknown="tell" if read_only else "refuse")
    try:
        from streamlit import net_util  # an extra, and dear
        from streamlit.web import cli
    except ImportError:
        raise UsageError(
            "aiops dashboard needs the package streamlit",
            "install it: pip install 'aiops-cli[dashboard]'",
        ) from None
    with services.store(chosen):
        pass  # what is wrong with it is told here, not in a browser
    _can_listen(host, port)
    talk = console(stderr=True)
    if host not in LOOPBACK and not (read_only or user_header):
        talk.print(
            f"warning: whoever reaches {host}:{port} may decide as {chosen.user}; put a reverse "
            "proxy before it (--user-header), or give --read-only"
        )
    shown = f"[{host}]" if ":" in host else host
    talk.print(f"http://{shown}:{port} (Ctrl-C ends it)", soft_wrap=True)
    # To judge a page of another site it would ask a server on the internet for our own address.
    net_util.get_external_ip = lambda: None
    given = {
        "instance": ctx.obj.instance,
        "read_only": read_only,
        "user_header": user_header,
        "public_host": public_host,
    }
    cli.main(
        ["run", str(SCRIPT), *_flags(host, port, public_host), "--", json.dumps(given)],
        standalone_mode=False,
    )


def _can_listen(host: str, port: int) -> None:
    """Raises UsageError where it cannot: Streamlit would only say so and end as a bug does."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise UsageError(
            f"nothing can listen on {host}:{port}: {error.strerror}",
            "another dashboard may run there already; choose another --port or --host",
        ) from None


def _flags(host: str, port: int, public_host: str | None) -> Iterator[str]:
    """For Streamlit: the names by which it may be called are a defence against DNS rebinding."""
    named = {"server.address": host, "server.port": str(port), **_FLAGS}
    if public_host:
        named["browser.serverAddress"] = public_host
    for name, value in named.items():
        yield f"--{name}={value}"
    for known in dict.fromkeys([*LOOPBACK, host, *([public_host] if public_host else [])]):
        yield f"--server.allowedHosts={known}"
