"""Headless Chromium, and servers for it. Tests use the page as a person would, through what it shows."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from service.api.server import app_runner

WAIT_S = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}


class PageServer:
    """An application on an event loop of its own, since a test that drives a browser blocks."""

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page-server")
        self._thread.start()
        self._runner = app_runner(app)
        self.url = self.run(self._start())

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await something on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call something that belongs to the server's loop."""

        async def on_the_loop() -> Any:
            return function(*arguments)

        return self.run(on_the_loop())

    async def _start(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    def close(self) -> None:
        """Stop the server and its loop."""
        self.run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass
class Tab:
    """One tab with the page in it. Every action brings the tab to the front first."""

    driver: Chrome
    handle: str

    def front(self) -> Chrome:
        self.driver.switch_to.window(self.handle)
        return self.driver

    def find(self, selector: str) -> WebElement:
        return self.front().find_element(By.CSS_SELECTOR, selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        return self.front().execute_script(f"return {script}")

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements, visible or not, at one moment."""
        return self.run(f"[...document.querySelectorAll({selector!r})].map((each) => each.textContent)")

    def until(self, holds: Callable[[], Any]) -> Any:
        """Wait until it holds and return its value."""
        return WebDriverWait(self.front(), WAIT_S, poll_frequency=0.05).until(lambda _: holds())

    def shows(self, selector: str, words: str) -> None:
        """Wait until an element has these words."""
        self.until(lambda: any(words in text for text in self.texts(selector)))

    def choose(self, **options: float) -> None:
        """Fill in the settings."""
        self.run("document.querySelector('details').open = true")
        for name, value in options.items():
            field = self.find(f"[name={name}]")
            field.clear()
            field.send_keys(str(value))

    def say(self, text: str, **options: float) -> None:
        """Type a message and press Enter."""
        self.choose(**options)
        self.find("#input").send_keys(text, Keys.ENTER)

    def answer(self) -> str:
        """Return the last answer so far."""
        return (self.texts(".assistant .text") or [""])[-1]

    def whole_answer(self) -> str:
        """Return the last answer once it is complete."""
        self.until(lambda: self.texts(".assistant[aria-busy=false]") and not self.texts("[aria-busy=true]"))
        return self.answer()

    @property
    def live(self) -> dict[str, Any]:
        """Return what the page keeps for reconnecting."""
        return self.run("JSON.parse(sessionStorage.getItem('fastswitch.live'))")

    def reads(self, number: int) -> None:
        """Wait for the token of this number."""
        self.until(lambda: self.live["last"] >= number)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests. Each has tabs of its own, and a server with a port, hence storage, of its own."""
    options = ChromeOptions()
    driver_path, options.binary_location = shutil.which("chromedriver"), shutil.which("chromium") or ""
    assert driver_path, "no chromedriver is installed: run `make browser`"
    assert options.binary_location, "no chromium is installed: run `make browser`"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--window-size=1280,800"):
        options.add_argument(flag)
    driver = Chrome(options, ChromeService(driver_path))
    yield driver
    driver.quit()


@pytest.fixture
def browse(chromium: Chrome) -> Iterator[Callable[..., Tab]]:
    """Opens tabs, maybe as a ``phone`` shows them, and closes them."""
    first = chromium.current_window_handle

    def open_tab(url: str, phone: bool = False) -> Tab:
        chromium.switch_to.new_window("tab")
        if phone:
            chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        chromium.get(url)
        return Tab(chromium, chromium.current_window_handle)

    yield open_tab
    for handle in set(chromium.window_handles) - {first}:
        chromium.switch_to.window(handle)
        chromium.close()
    chromium.switch_to.window(first)


@pytest.fixture
def page(build: Callable[..., Any]) -> Iterator[Callable[..., PageServer]]:
    """Starts servers of what `build` makes."""
    servers: list[PageServer] = []

    def start(*arguments: Any, **options: Any) -> PageServer:
        app, _, _ = build(*arguments, **options)
        servers.append(PageServer(app))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
