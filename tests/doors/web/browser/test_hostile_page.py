"""A page of another origin, in a real browser, beside the open page of Shoal: it tries all that it can."""

import http.server
import json
import os
import threading
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from kit.browsing import DoorProcess, chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.needs_browser

REBOUND = "rebound.example"  # a name of the attacker that points to this machine
WAIT_MS = 1_500
NETWORK = 'network = "alone"\npow_bits = 0\nprivate = true\n'

# Each attempt gives what it got. "nothing" is what it has to be, also where the browser does not let it try.
ATTEMPTS = """
async (door) => {
  const found = {};
  const attempt = async (name, work) => {
    try { found[name] = await work() || "nothing" } catch (error) { found[name] = "nothing" }
  };
  const body = JSON.stringify({name: "evil", entries: [{path: "evil", size: 1}]});
  const json = {"Content-Type": "application/json"};
  const sends = `${door}/api/v1/sends`;
  for (const path of ["/", "/app.js", "/api/v1/status", "/api/v1/library", "/metrics"]) {
    await attempt(`read ${path}`, async () => (await fetch(door + path)).text());
    await attempt(`read ${path} with cookies`, async () => (await fetch(door + path, {credentials: "include"})).text());
    await attempt(`read ${path} opaquely`, async () => (await fetch(door + path, {mode: "no-cors"})).text());
  }
  for (const method of ["POST", "PUT", "DELETE"]) {
    await attempt(`${method} json`, async () => (await fetch(sends, {method, body, headers: json})).text());
  }
  await attempt("POST text", async () => (await fetch(sends, {method: "POST", body, mode: "no-cors"})).text());
  await attempt("beacon", async () => navigator.sendBeacon(sends, new Blob([body], {type: "text/plain"})) && "");
  const element = (name, tag, fields) => attempt(name, () => new Promise((done) => {
    const made = Object.assign(document.createElement(tag), fields);
    made.onload = () => done(tag === "iframe" ? framed(made) : "loaded");
    made.onerror = () => done("");
    setTimeout(() => done(""), 700);
    document.body.append(made);
  }));
  const framed = (frame) => { try { return frame.contentWindow.document.body.innerText } catch (error) { return "" } };
  await element("image", "img", {src: `${door}/icon.svg`});
  await element("script", "script", {src: `${door}/app.js`});
  await element("module", "script", {type: "module", src: `${door}/app.js`});
  await element("style", "link", {rel: "stylesheet", href: `${door}/style.css`});
  await element("frame", "iframe", {src: `${door}/`});
  await element("frame of the api", "iframe", {src: `${door}/api/v1/status`});
  const form = (name, encoding) => attempt(name, async () => {
    const made = document.createElement("form");
    Object.assign(made, {method: "POST", action: sends, target: "sink", enctype: encoding});
    made.append(Object.assign(document.createElement("input"), {name: body.slice(0, -1) + ', "a": "', value: '"}'}));
    document.body.append(Object.assign(document.createElement("iframe"), {name: "sink"}), made);
    made.submit();
    return "";
  });
  for (const kind of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) await form(kind, kind);
  await attempt("socket", () => new Promise((done) => {
    const socket = new WebSocket(door.replace("http", "ws") + "/api/v1/events");
    socket.onopen = () => done("open");
    socket.onerror = () => done("");
  }));
  await attempt("events", () => new Promise((done) => {
    const source = new EventSource(`${door}/api/v1/events`);
    source.onopen = () => done("open");
    source.onerror = () => { source.close(); done("") };
  }));
  await attempt("tab", async () => {
    const tab = window.open(`${door}/`, "other");
    await new Promise((done) => setTimeout(done, 700));
    return tab && !tab.closed ? (tab.document.body.innerText || tab.sessionStorage.length) : "";
  });
  return found;
}
"""


class Blank(http.server.BaseHTTPRequestHandler):
    """An empty page that allows itself everything."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>hostile</title><body></body>")

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def hostile_port() -> Iterator[int]:
    """Where a hostile page is served on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoorProcess]:
    folder = tmp_path_factory.mktemp("door")
    (folder / "network.toml").write_text(NETWORK)
    running = DoorProcess(folder / "home", folder / "network.toml").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A browser for which a name of the attacker is this machine. Its own guard of local addresses is off, as older
    browsers have none."""
    from playwright.sync_api import sync_playwright

    options = [f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1", "--disable-features=LocalNetworkAccessChecks"]
    options += ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=options)
        yield running
        running.close()


def ask(door: DoorProcess, call: str) -> Any:
    """What the API tells its owner."""
    origin, _, token = door.url.partition("/#")
    request = urllib.request.Request(f"{origin}/api/v1/{call}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def opened(browser: "Browser", url: str, door: DoorProcess) -> "Page":
    """A hostile page in the same window as the page of Shoal, which is open and has its token."""
    context = browser.new_context()
    context.new_page().goto(door.url)
    page = context.new_page()
    page.goto(url)
    return page


@pytest.mark.parametrize("host", ["127.0.0.1", REBOUND])
def test_it_reads_nothing_and_changes_nothing(
    browser: "Browser", door: DoorProcess, hostile_port: int, host: str
) -> None:
    origin = door.url.partition("/#")[0]
    page = opened(browser, f"http://{host}:{hostile_port}/", door)
    found = page.evaluate(ATTEMPTS, origin)
    page.wait_for_timeout(WAIT_MS)
    assert len(found) > 25
    assert {name: got for name, got in found.items() if got != "nothing"} == {}
    assert ask(door, "sends") == []
    assert ask(door, "gets") == []


def test_a_name_that_is_rebound_to_the_door_shows_nothing_of_it(browser: "Browser", door: DoorProcess) -> None:
    """The attacker's page has gone, and its name now leads to the door: the browser takes both for one origin."""
    port = door.url.partition("/#")[0].rpartition(":")[2]
    page = browser.new_context().new_page()
    page.route("**/*", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(f"http://{REBOUND}:{port}/")
    page.unroute("**/*")
    for path in ("/", "/app.js", "/api/v1/status"):
        assert page.evaluate("async (path) => (await fetch(path)).status", path) == 421
