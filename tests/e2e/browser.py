"""A headless Chromium, driven by the WebDriver protocol (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

ROOT = Path(__file__).parents[2]
SECONDS = 60  # far more than a page takes
OPENS = 3  # seconds within which a list opens, or has to be asked again
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference

T = TypeVar("T")


def programs() -> tuple[str, str] | None:
    """Chromium and its driver: those of .envs/chromium, else the system's; None where missing."""
    own = ROOT / ".envs" / "chromium"
    found = [
        str(own / name) if (own / name).exists() else shutil.which(name)
        for name in ("chromium", "chromedriver")
    ]
    browser, driver = found
    return (browser, driver) if browser and driver else None


class Browser:
    """One window. What is looked for is waited for."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client = client
        self._base = f"/session/{session}"

    def call(self, method: str, path: str, **body: Any) -> Any:
        answer = self._client.request(
            method, self._base + path, json=body if method == "POST" else None
        )
        value = answer.json()["value"]
        if answer.is_error:
            raise LookupError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def run(self, script: str, *args: Any) -> Any:
        return self.call("POST", "/execute/sync", script=script, args=list(args))

    def open(self, url: str) -> None:
        self.call("POST", "/url", url=url)

    def size(self, width: int, height: int) -> None:
        """Of what the page sees; a window is never narrower than 500 pixels, a phone is."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 640,
        )

    def dark(self, dark: bool) -> None:
        value = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def devtools(self, command: str, **params: Any) -> Any:
        return self.call("POST", "/goog/cdp/execute", cmd=command, params=params)

    def text(self) -> str:
        """All that can be read on the page."""
        return str(self.run("return document.body.innerText"))

    def see(self, *words: str) -> str:
        """Wait for all of these; returns the page's text."""

        def seen() -> str | None:
            text = self.text()
            return text if all(word in text for word in words) else None

        return self.until(seen, lambda: f"{words} is not in:\n{self.text()}")

    def gone(self, word: str) -> None:
        self.until(lambda: word not in self.text() or None, lambda: f"still there: {word}")

    def until(self, found: Callable[[], T | None], said: Callable[[], str]) -> T:
        end = time.monotonic() + SECONDS
        while (value := found()) is None:
            assert time.monotonic() < end, said()
            time.sleep(0.1)
        return value

    def element(self, xpath: str) -> Mapping[str, str]:
        """The first one that is there and can be seen."""

        def found() -> Mapping[str, str] | None:
            for one in self.call("POST", "/elements", using="xpath", value=xpath):
                with suppress(LookupError):  # the page was made anew meanwhile
                    if self.call("GET", f"/element/{one[ELEMENT]}/displayed"):
                        return dict(one)
            return None

        return self.until(found, lambda: f"{xpath} is not in:\n{self.text()}")

    def click(self, xpath: str) -> None:
        """Again, where the page was made anew under the pointer."""

        def clicked() -> bool | None:
            with suppress(LookupError):
                one = self.element(xpath)[ELEMENT]
                self.run("arguments[0].scrollIntoView({block: 'center'})", {ELEMENT: one})
                self.call("POST", f"/element/{one}/click")
                return True
            return None

        self.until(clicked, lambda: f"{xpath} cannot be clicked")

    def button(self, label: str) -> None:
        self.click(f"//button[normalize-space()={label!r}]")

    def unfold(self, label: str) -> None:
        self.click(f"//summary[contains(normalize-space(), {label!r})]")

    def type(self, label: str, text: str) -> None:
        one = self.element(f"//input[@aria-label={label!r}]")[ELEMENT]
        self.call("POST", f"/element/{one}/value", text=text)

    def value(self, label: str) -> str:
        one = self.element(f"//input[@aria-label={label!r}]")
        return str(self.run("return arguments[0].value", one))

    def pick(self, label: str, option: str) -> None:
        """Of a list that opens under the field; it closes again where the page still moves."""
        wanted = f"//*[@role='option'][normalize-space()={option!r}]"

        def picked() -> bool | None:
            self.click(f"//input[@aria-label={label!r}]")
            end = time.monotonic() + OPENS
            while time.monotonic() < end:
                with suppress(LookupError):
                    one = self.call("POST", "/element", using="xpath", value=wanted)
                    self.call("POST", f"/element/{one[ELEMENT]}/click")
                    return True
                time.sleep(0.1)
            return None

        self.until(picked, lambda: f"{option} is not among:\n{self.text()}")

    def scroll(self, xpath: str) -> None:
        """Until it is the first thing in sight, below the page's own bar."""
        self.run("arguments[0].style.scrollMarginTop = '3.6rem'", self.element(xpath))
        self.run("arguments[0].scrollIntoView()", self.element(xpath))

    def screenshot(self) -> bytes:
        """A PNG of what can be seen."""
        return base64.b64decode(self.call("GET", "/screenshot"))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """`folder` keeps the driver's log. It reaches this machine and nothing else."""
    found = programs()
    assert found is not None
    chromium, chromedriver = found
    log = folder / "chromedriver.log"
    with (
        # Chromium makes a socket in it, whose path has 107 characters at most, and ends without
        # a word where it has more: a test's own folder is too deep.
        # It may still be writing there when it is told to end.
        tempfile.TemporaryDirectory(
            prefix="aiops-", dir="/tmp", ignore_cleanup_errors=True
        ) as home,
        log.open("w") as out,
        subprocess.Popen(
            [chromedriver, "--port=0"],
            env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home},
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as driver,
    ):
        try:
            with httpx.Client(base_url=_address(log, driver), timeout=SECONDS) as client:
                options = {
                    "binary": chromium,
                    "args": [
                        "--headless=new",
                        "--no-sandbox",  # the tests' containers are root's and lack its rights
                        "--disable-dev-shm-usage",
                        "--disable-gpu",
                        "--hide-scrollbars",
                        "--force-color-profile=srgb",
                        f"--user-data-dir={home}/profile",
                        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                    ],
                }
                wanted = {"alwaysMatch": {"goog:chromeOptions": options}}
                made = client.post("/session", json={"capabilities": wanted}).json()["value"]
                assert "sessionId" in made, made
                try:
                    yield Browser(client, made["sessionId"])
                finally:
                    client.delete(f"/session/{made['sessionId']}")
        finally:
            driver.terminate()


def _address(log: Path, driver: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + SECONDS
    while not (said := re.search(r"started successfully on port (\d+)", log.read_text())):
        assert time.monotonic() < end, log.read_text()
        assert driver.poll() is None, log.read_text()
        time.sleep(0.05)
    return f"http://127.0.0.1:{said[1]}"
