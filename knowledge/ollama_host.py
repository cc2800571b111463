"""Where an Ollama listens and where its models run: pure, nothing is looked up or sent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from knowledge.errors import ModelUnavailable

# Ollama stamps these on models that run in its cloud: gpt-oss:120b-cloud, qwen3-coder:cloud.
_CLOUD = re.compile(r"[-:]cloud$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What Ollama says about an installed model. `context_length` is the window in tokens that
    the model was trained with, `num_ctx` the one that its Modelfile asks for (it may be larger:
    nomic-embed-text has 2,048 and asks for 8,192), `embedding_length` its dimensions; None where
    it does not say. `remote_host` is where a model runs that does not run there."""

    context_length: int | None
    num_ctx: int | None
    embedding_length: int | None
    capabilities: tuple[str, ...]
    remote_host: str | None


def base_url(text: str) -> str:
    """The URL that a value of OLLAMA_HOST means, with its port.

    Read as Ollama's own command reads it (envconfig.Host and ConnectableHost of Ollama's source):
    the port is 11434, but 80 where http:// and 443 where https:// is written; an address to
    listen on (0.0.0.0, ::) is the one of this machine; quotes and blanks around it do not count.
    Other than there, a wrong port is refused, not replaced. Raises ModelUnavailable."""
    told = text.strip().strip("\"'").strip()
    if told == "ollama.com":
        told = "https://ollama.com"
    scheme, explicit, rest = told.partition("://") if "://" in told else ("http", "", told)
    authority, _, path = rest.partition("/")
    found = re.fullmatch(r"(\[.*\]|[^:]*)(?::([0-9]{0,5}))?", authority)
    host, port = (found[1], found[2]) if found else (authority, "")  # ::1 has no port
    default = {"http": 80, "https": 443}.get(scheme.lower()) if explicit else 11434
    number = int(port) if port else default
    host = _connectable(host.lower() or "127.0.0.1")
    if (
        (path and not authority)
        or not host
        or not number
        or number > 65535
        or not re.fullmatch(r"[\w./~%-]*", path)
    ):
        raise ModelUnavailable(
            "Ollama",  # without the text: it may hold a password
            "OLLAMA_HOST is no address",
            "set it to HOST, HOST:PORT or http(s)://HOST[:PORT][/PATH], without a login",
        )
    path = path.strip("/")
    return f"{scheme.lower()}://{host}:{number}" + (f"/{path}" if path else "")


def _connectable(host: str) -> str:
    """A host as it stands in a URL that can be connected to; empty for what is none."""
    try:
        address = ipaddress.ip_address(host[1:-1] if host[0] + host[-1] == "[]" else host)
    except ValueError:
        return host if re.fullmatch(r"[\w.-]+", host) else ""
    if address.version == 4:
        return "127.0.0.1" if address.is_unspecified else str(address)
    return "[::1]" if address.is_unspecified else f"[{address}]"


def is_local(url: str) -> bool:
    """Whether a URL as of `base_url` leads to this machine: a loopback address, or localhost.
    No name is looked up."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_cloud(model: str, info: ModelInfo | None = None) -> bool:
    """Whether a model runs in Ollama's cloud, whichever host is asked: by its name, and by what
    Ollama says about it (a cloud model can be copied to any name)."""
    return _CLOUD.search(model) is not None or (info is not None and bool(info.remote_host))


def refusal(
    host: str, model: str, allowed: Collection[str], info: ModelInfo | None = None
) -> str | None:
    """Why this model on this host may not be shown anything, or None where it may.

    What leaves this machine needs a name in `allowed`: the host, in any form of OLLAMA_HOST, if
    it is not this machine, and the model if it runs in Ollama's cloud. A host that is no address
    is refused."""
    try:
        url = base_url(host)
    except ModelUnavailable as error:
        return error.why
    if not is_local(url) and url not in set(_urls(allowed)):
        return f"{url} is not this machine, and the settings do not allow it by name"
    if is_cloud(model, info) and model not in allowed:
        return f"{model} runs in a cloud, and the settings do not allow it by name"
    return None


def _urls(texts: Collection[str]) -> Iterator[str]:
    for text in texts:
        with suppress(ModelUnavailable):  # a model's name
            yield base_url(text)


def tagged(model: str) -> str:
    """The name as `models` gives it: "llama3.1" is "llama3.1:latest"."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
