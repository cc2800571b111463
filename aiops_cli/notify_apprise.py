"""The services that `apprise` knows, behind the Notifier seam. The only importer of apprise."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiops_cli.errors import ConfigError, NotifyError

if TYPE_CHECKING:
    from apprise import Apprise

SECONDS = 10  # for all services together: nothing else is done meanwhile

# How a service is told that messages belong together, and that one says that it is over. The
# others show the title, which is the same each time.
_KEYED = {
    "pagerduty": "dedup={key}&action=map",
    "opsgenie": "alias={key}",
    "json": ":key={key}",
    "jsons": ":key={key}",
    "xml": ":key={key}",
    "xmls": ":key={key}",
    "form": ":key={key}",
    "forms": ":key={key}",
}


class AppriseNotifier:
    """Tells every address. Nothing is sent before the first message."""

    def __init__(self, urls: Sequence[str]) -> None:
        """Raises ConfigError for an address that no service understands, without showing it: it
        holds a key."""
        # It would log to stderr by itself, and name addresses.
        logger = logging.getLogger("apprise")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._urls = tuple(urls)
        for number, url in enumerate(self._urls, 1):
            if not _apprise().add(url):
                scheme = url.partition("://")[0]
                raise ConfigError(
                    f"notify: address {number} ({scheme}://…) is none that apprise understands",
                    "apprise's own documentation shows each service's address",
                )

    def tell(self, title: str, body: str, *, key: str, over: bool = False) -> None:
        from apprise import NotifyFormat, NotifyType  # 0.1 s: only where somebody is told

        services = _apprise()
        for url in self._urls:
            services.add(_keyed(url, key))
        result: Any = services.notify(
            body=body,
            title=title,
            notify_type=NotifyType.SUCCESS if over else NotifyType.FAILURE,
            body_format=NotifyFormat.TEXT,  # what is in it is no markup
            timeout=SECONDS,
        )
        if result:
            return
        missed = [one.name for one in result if not one]
        reached = any(bool(one) for one in result)
        raise NotifyError(
            f"people could not be told by {', '.join(missed) or 'any service'}",
            "aiops doctor shows where `notify` is set; it is tried again",
            reached=reached,
        )


def _apprise() -> Apprise:
    try:
        import apprise  # 0.1 s, and an extra
    except ImportError:
        raise ConfigError(
            "notify is set, and apprise is not installed",
            "pip install 'aiops-cli[notify]', or take notify out of the settings",
        ) from None
    return apprise.Apprise()


def _keyed(url: str, key: str) -> str:
    """The address with the key added, where its service has a place for one."""
    more = _KEYED.get(url.partition("://")[0], "").format(key=quote(key, safe=""))
    if not more:
        return url
    return url + ("&" if "?" in url else "?") + more
