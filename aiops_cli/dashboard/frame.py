"""The frame around every page: who looks and what they may do, the navigation, the looks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import streamlit as st

from aiops_cli import config
from aiops_cli.config import Settings
from aiops_cli.dashboard import (
    acts,
    history_page,
    knowledge_page,
    overview_page,
    queue_page,
    values,
)
from aiops_cli.dashboard.parts import Visitor, boxed, guarded, small
from aiops_cli.errors import AiopsError
from knowledge.errors import KnowledgeError
from knowledge.redact import clean

LONGEST_NAME = 100  # characters of a name that a proxy sends
REFRESH = 10  # seconds

# In a colour that is readable on light and on dark: a picture knows no theme.
_LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 92 28" width="92" height="28">
<path d="M2 15h6l3-9 6 17 3-8h6" fill="none" stroke="#2f80e4" stroke-width="3"
 stroke-linecap="round" stroke-linejoin="round"/>
<text x="33" y="20.5" font-family="Source Sans, sans-serif" font-size="21" font-weight="700"
 fill="#2f80e4" textLength="56" lengthAdjust="spacingAndGlyphs">aiops</text></svg>"""

# The list stays beside the incident that is looked at; on a phone it would push it out of sight.
# That the page is stale is told where every button of it is in sight.
_STYLE = """<style>
.block-container { padding-top: 4.2rem; max-width: 84rem; }
h1 { font-size: 1.6rem !important; padding: 0 !important; }
h3 { font-size: 1.2rem !important; padding-top: .6rem !important; }
.st-key-heading [data-testid="stText"] { font-weight: 600; font-size: 1.35rem; }
[class*="st-key-strong-"] [data-testid="stText"] { font-weight: 600; font-size: 1.05rem; }
[class*="st-key-soft-"] [data-testid="stText"] { opacity: .75; font-size: .875rem; }
[data-testid="stText"] { white-space: pre-wrap; overflow-wrap: anywhere; }
.st-key-careful, .st-key-held, .st-key-paused { border-left: 4px solid #c77700; }
.st-key-flash { border-left: 4px solid #2e9e4f; }
[class*="st-key-row-"] { border-left: 4px solid #8a96a3; }
[class*="st-key-row-ask"] { border-left-color: #2f80e4; }
[class*="st-key-row-unknown"] { border-left-color: #c77700; }
[class*="st-key-row-bad"] { border-left-color: #d1383d; }
[class*="st-key-row-good"] { border-left-color: #2e9e4f; }
.st-key-stale { position: fixed; bottom: 1rem; right: 1rem; z-index: 99; padding: 1rem;
  width: min(26rem, calc(100vw - 2rem)); border-radius: .5rem; background: Canvas;
  border: 1px solid #c77700; box-shadow: 0 .2rem 1.2rem rgba(0, 0, 0, .35); }
[data-testid="stColumn"]:has(.st-key-beside-incident) { position: sticky; top: 4rem;
  align-self: flex-start; max-height: calc(100vh - 5rem); overflow-y: auto; }
@media (max-width: 640px) {
  [data-testid="stColumn"]:has(.st-key-beside-incident) { display: none; }
  .block-container { padding-left: 1rem; padding-right: 1rem; }
}
</style>"""


@dataclass(frozen=True)
class Access:
    """What the dashboard was started with."""

    instance: str | None = None
    read_only: bool = False
    user_header: str | None = None
    public_host: str | None = None  # for the guard


def show(given: str) -> None:
    """The whole page; `given` is an Access as JSON."""
    st.set_page_config(page_title="aiops", layout="wide")
    st.logo(_LOGO)
    st.html(_STYLE)
    with guarded("The settings cannot be used"):
        access = Access(**json.loads(given))
        visitor = visitor_of(access)
        pages: list[tuple[str, str, Callable[[Visitor], None]]] = [
            ("Queue", "queue", queue_page.show),
            ("Overview", "overview", overview_page.show),
            ("History", "history", history_page.show),
            ("Knowledge", "knowledge", knowledge_page.show),
        ]
        current = st.navigation(
            [
                st.Page(_bound(page, visitor), title=title, url_path=path, default=not number)
                for number, (title, path, page) in enumerate(pages)
            ],
            position="top",
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            st.title(current.title, anchor=False)
            small("who", _told(visitor), width="content")
        _paused(visitor)
        current.run()


@st.fragment(run_every=REFRESH)
def _paused(visitor: Visitor) -> None:
    """That nothing is done alone now. Where it cannot be read the page below says why."""
    try:
        told = values.paused(acts.pause(visitor.settings))
    except (AiopsError, KnowledgeError):
        told = "whether aiops is paused is not known: the knowledge base cannot be read"
    if told:
        boxed("paused", told)


def _bound(page: Callable[[Visitor], None], visitor: Visitor) -> Callable[[], None]:
    return lambda: page(visitor)


@lru_cache(maxsize=1)
def _settings(instance: str | None) -> Settings:
    """As they were when the dashboard was started."""
    return config.load(cwd=Path(), environ=os.environ, overrides={"instance": instance})


def visitor_of(access: Access) -> Visitor:
    """Who looks now. Where a proxy is to name them and has not, nobody may act: whoever came around
    the proxy would act in another one's name."""
    settings = _settings(access.instance)
    user, why_not = settings.user, ""
    if access.user_header is not None:
        named = st.context.headers.get_all(access.user_header)
        user = name_of(named)
        if not user:
            came = "several" if len(named) > 1 else "no"
            why_not = (
                f"nothing can be decided here: {came} {access.user_header} came with the request"
            )
    if access.read_only or settings.read_only:
        why_not = "read only"
    chosen = replace(settings, user=user or "nobody", read_only=bool(why_not))
    return Visitor(chosen, access.instance, why_not)


def name_of(headers: Sequence[str]) -> str:
    """The name as the audit log keeps it; "" where there is none, or more than one: then the
    proxy has left what a browser sent beside its own."""
    if len(headers) != 1:
        return ""
    return " ".join(clean(headers[0]).split())[:LONGEST_NAME]


def _told(visitor: Visitor) -> str:
    return visitor.why_not or f"you decide as {visitor.settings.user}"
