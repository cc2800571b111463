"""A person's browser window on the dashboard, without a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import streamlit as st
from streamlit.runtime.context import StreamlitHeaders
from streamlit.testing.v1 import AppTest

from aiops_cli.dashboard import frame
from tests.airflow_server import exception
from tests.cli import Cli
from tests.desk import REFUSED

SECONDS = 60  # far more than a page takes


def said(element: object) -> str:
    return str(getattr(element, "value", ""))


@dataclass
class Page:
    """A person's browser window."""

    app: AppTest

    def look(self, **query: str) -> Page:
        """Come to the page anew, with this in its address."""
        self.app.query_params.clear()
        for name, value in query.items():
            self.app.query_params[name] = value
        return self.again()

    def again(self) -> Page:
        self.app.run()
        assert list(self.app.exception) == []
        return self

    def press(self, label: str) -> Page:
        (button,) = [one for one in self.app.button if one.label == label]
        button.click()
        return self.again()

    def fill(self, label: str, text: str) -> Page:
        (field,) = [one for one in self.app.text_input if one.label == label]
        field.input(text)
        return self

    def choose(self, label: str, option: str) -> Page:
        (field,) = [one for one in self.app.selectbox if one.label == label]
        field.select(option)
        return self

    def buttons(self) -> list[str]:
        return [one.label for one in self.app.button]

    @property
    def text(self) -> str:
        """All words but those of tables."""
        kinds = ("text", "code", "error", "warning", "subheader")
        return "\n".join(said(one) for kind in kinds for one in self.app.get(kind))

    def tables(self) -> str:
        return "\n".join(one.value.to_string() for one in self.app.dataframe)


@pytest.fixture
def page(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    yield opened(cli, monkeypatch)
    frame._settings.cache_clear()


def opened(cli: Cli, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Page:
    """A window of a dashboard that was started with this."""
    for name, value in cli.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(cli.home)
    frame._settings.cache_clear()

    def script(given: str) -> None:
        from aiops_cli.dashboard.frame import show

        show(given)

    return Page(AppTest.from_function(script, default_timeout=SECONDS, args=(json.dumps(given),)))


def answered(cli: Cli) -> str:
    """An incident whose answer is known: retry it."""
    cli.mended()
    return cli.capture("orders", run_id="second", events=[REFUSED], ended=cli.clock.now())


def unlike(number: int) -> dict[str, Any]:
    """A failure of a kind of its own; figures would be masked."""
    word = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    return exception(f"Error{word.title()}", f"it is {word}")


def one_page(name: str) -> Page:
    """Another page than the first. The testing tool knows no pages that are functions."""

    def script(name: str) -> None:
        from importlib import import_module

        from aiops_cli.dashboard.frame import Access, visitor_of

        import_module(f"aiops_cli.dashboard.{name}_page").show(visitor_of(Access()))

    return Page(AppTest.from_function(script, default_timeout=SECONDS, args=(name,)))


def came_with(monkeypatch: pytest.MonkeyPatch, *headers: tuple[str, str]) -> None:
    """What the browser's connection came with."""
    monkeypatch.setattr(type(st.context), "headers", StreamlitHeaders(headers))
