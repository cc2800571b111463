"""An open `airflow_client` for one address: its certificates, its proxy, and a quick import.

The only place that loads that package.
"""

from __future__ import annotations

import importlib
import sys
import threading
from dataclasses import dataclass, field
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

_PACKAGE = "airflow_client.client"
_import_lock = threading.Lock()


@dataclass(frozen=True)
class Access:
    """The way through the network. `ca_file` is trusted instead of the machine's own; `proxy` is
    asked instead of the environment's (HTTPS_PROXY, NO_PROXY), and neither for loopback."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    proxy: str | None = field(default=None, repr=False)  # may hold a login
    verify_tls: bool = True


class Opened(NamedTuple):
    client: Any
    tls_error: type[Exception]  # what the client makes of TLS failures, and of nothing else


def open_client(url: str, access: Access) -> Opened:
    """A client for `url` that repeats nothing and follows no redirect. Connects to nothing yet."""
    import urllib3  # comes with airflow_client, as dear as that

    configuration, api_client, tls_error = load_client()
    # Retry(False): no repeats but ours; redirects are handed back, not followed.
    settings = configuration(host=url, retries=urllib3.Retry(False))
    settings.verify_ssl = access.verify_tls
    if not access.verify_tls:  # doctor warns; a line for each request would only hide the rest
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(access, name)
        if path is not None:
            setattr(settings, {"ca_file": "ssl_ca_cert"}.get(name, name), str(path))
    proxy = proxy_for(url, access.proxy)
    settings.no_proxy = None  # decided already
    settings.proxy, login = _without_login(proxy) if proxy else (None, None)
    if login:
        settings.proxy_headers = urllib3.make_headers(proxy_basic_auth=login)
    client = api_client(settings)
    client.user_agent = "aiops-cli"
    return Opened(client, tls_error)


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = (urlsplit(url).hostname or "").lower()
    address = _address(host)
    return (
        host == "localhost" or host.endswith(".localhost") or bool(address and address.is_loopback)
    )


def proxy_for(url: str, chosen: str | None) -> str | None:
    """The proxy to ask for `url`: the chosen one, else the environment's unless NO_PROXY names the
    host (by name, suffix or network). Never one for this machine: a proxy has another loopback."""
    if chosen or is_loopback(url):
        return None if is_loopback(url) else chosen
    from urllib.request import getproxies, proxy_bypass  # 20 ms; airflow_client wants it anyway

    host = urlsplit(url).hostname or ""
    proxies = getproxies()
    found = proxies.get(urlsplit(url).scheme) or proxies.get("all")
    if not found or proxy_bypass(host):
        return None
    address = _address(host)
    for entry in proxies.get("no", "").split(","):
        try:
            if address and address in ip_network(entry.strip(), strict=False):
                return None
        except ValueError:  # a name, which proxy_bypass has seen
            continue
    return found if "://" in found else f"http://{found}"


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _without_login(proxy: str) -> tuple[str, str | None]:
    """The proxy's address alone, and the `user:password` that stood in it."""
    parts = urlsplit(proxy)
    login, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, host, "", "", "")), unquote(login) if at else None


def load_client() -> tuple[Any, Any, Any]:
    """airflow_client's (Configuration, ApiClient, ApiException).

    Importing the package builds all its models, a second's work for three classes. So it is
    imported under stubs that keep its `__init__` from running; they and all that was loaded under
    them leave `sys.modules` again, and whoever imports the package later gets it whole.
    """
    with _import_lock:
        if _PACKAGE not in sys.modules:
            try:
                return load_under_stubs()
            except Exception:  # noqa: BLE001, S110 - whatever another layout of the package breaks
                pass  # in the shortcut, the plain import is right
        package = importlib.import_module(_PACKAGE)
        return package.Configuration, package.ApiClient, package.ApiException


def load_under_stubs() -> tuple[Any, Any, Any]:
    """The shortcut. Raises whatever a package laid out differently makes it raise."""
    spec = find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError(_PACKAGE)
    before = set(sys.modules)
    try:
        stub = ModuleType(_PACKAGE)
        stub.__path__ = list(spec.submodule_search_locations)
        sys.modules[_PACKAGE] = stub
        # api_client imports the models only to look answers' types up, which is never asked of it.
        models = ModuleType(f"{_PACKAGE}.models")
        sys.modules[models.__name__] = models
        configuration = importlib.import_module(f"{_PACKAGE}.configuration")
        client = importlib.import_module(f"{_PACKAGE}.api_client")
        return configuration.Configuration, client.ApiClient, client.ApiException
    finally:
        for name in set(sys.modules) - before:
            if name.split(".")[0] == "airflow_client":
                del sys.modules[name]
