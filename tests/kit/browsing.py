"""A real browser, doors in processes of their own for it to look at, and what a hand does: drop files, wait, look."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.fleet import plain_environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/#[\w-]+")
LIMIT_S = 60.0  # on a machine that is busy
POLL_S = 0.05
STOP_LIMIT_S = 20.0


def chromium() -> str | None:
    """The browser of this machine. Playwright's own is not used: it would be one more download."""
    return next((path for name in CHROMIUMS if (path := shutil.which(name))), None)


def why_no_browser() -> str | None:
    """What is missing to look at the page with a browser; None when all is there."""
    if chromium() is None:
        return "no Chromium here"
    return None if importlib.util.find_spec("playwright") else "no Playwright here"


def launch(playwright: "Playwright") -> "Browser":
    """Start the browser. Root cannot have its sandbox, and what it loads is our own."""
    path = chromium()
    assert path is not None
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])


class DoorProcess:
    """A door in a process of its own: `shoal web`. It keeps its port when it is started again."""

    def __init__(self, home: Path, network_file: Path) -> None:
        self.home = home
        self.url = ""
        options = ["--home", str(home), "--network", str(network_file)]
        self._command = [sys.executable, "-P", "-m", "shoal.cli", *options, "web", "--no-open"]
        self._log = home.with_suffix(".log")
        self._process: subprocess.Popen[str] | None = None
        self._port: str | None = None

    def start(self) -> "DoorProcess":
        """Start it, and wait for the address of its page."""
        with open(self._log, "a") as log:
            self._process = subprocess.Popen(
                [*self._command, *(("--port", self._port) if self._port else ())],
                stdout=subprocess.PIPE,
                stderr=log,
                env=plain_environment(),
                text=True,
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := ADDRESS.search(line):
                self.url, self._port = found[0], found[1]
                return self
        raise AssertionError(f"the door did not open: {self._log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Ask it to end, and wait for that."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_LIMIT_S)
            assert process.stdout is not None
            process.stdout.close()


class Tab:
    """A page of the browser, and everything that went wrong in it."""

    def __init__(self, context: "BrowserContext", url: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(LIMIT_S * 1000)
        self.complaints: list[str] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())  # "Leave the page?", while files are read
        self.page.goto(url)

    def _note(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def front(self) -> None:
        """Make it the tab that is seen: a hidden one draws once a second."""
        self.page.bring_to_front()

    def view(self, name: str) -> None:
        """Go to one of the four views."""
        self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True).click()

    def button(self, name: str) -> Any:
        """The first button of this name."""
        return self.page.get_by_role("button", name=name).first

    def sees(self, text: str) -> None:
        """Wait until this text is to be seen."""
        self.page.get_by_text(text).first.wait_for()

    def until(self, expression: str) -> Any:
        """Wait until an expression is true. Not by Playwright's own way, which our security policy forbids."""
        return wait_until(lambda: self.page.evaluate(expression), expression)

    def drop(self, *paths: Path) -> None:
        """Drop files or folders on the page, as from a file manager."""
        session = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            session.send("Input.dispatchDragEvent", {"type": kind, "x": 200, "y": 200, "data": data})
        session.detach()

    def upload_at(self, bytes_per_s: int) -> None:
        """Let uploads of this tab be no faster than this; -1 for as fast as they go."""
        session = self.page.context.new_cdp_session(self.page)
        limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_s}
        session.send("Network.enable")
        session.send("Network.emulateNetworkConditions", limits)

    def choose(self, button: str, *paths: Path) -> None:
        """Press a button that opens the dialog for files, and choose these."""
        with self.page.expect_file_chooser() as opened:
            self.button(button).click()
        opened.value.set_files([str(path) for path in paths])


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Wait until a condition is true; what it gave."""
    end = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(POLL_S)
    return found
