"""The page as a person uses it: a real browser, real doors of two homes, a real network.

One browser and one network serve all tests of this module. Every test has tabs of its own, and none may complain.
"""

import os
import random
import shutil
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.browsing import DoorProcess, Tab, launch, wait_until
from kit.pictures import smaller
from kit.web_network import WebNetwork

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.needs_browser

NODES = 13  # so that twelve take a share of what the first sends
MINUTES, FRAMES_PER_S = 55, 3_000  # of the talk that is played
VIEWS = ("Send", "Get", "Yours", "Node")
DESKTOP, TELEPHONE = (760, 720), (360, 740)
MAX_PAGE_BYTES = 120_000
MAX_PICTURE_BYTES = 60_000
SLOW_BYTES_PER_S = 1_000_000
BIG_BYTES = 2_500_000

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def volunteer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebNetwork]:
    """A network, and the page of one of its nodes: what it sends lies on the others."""
    running = WebNetwork(tmp_path_factory.mktemp("network"), NODES).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def client(volunteer: WebNetwork) -> Iterator[DoorProcess]:
    """The page of a home that only sends and gets: `shoal web`."""
    door = DoorProcess(volunteer.folder / "client", volunteer.network_file).start()
    yield door
    door.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture
def open_tab(browser: "Browser") -> Iterator[OpenTab]:
    """Open tabs of one window; at the end none may have complained."""
    context = browser.new_context(
        viewport={"width": DESKTOP[0], "height": DESKTOP[1]}, permissions=["clipboard-read", "clipboard-write"]
    )
    tabs = []

    def opened(url: str) -> Tab:
        tabs.append(Tab(context, url))
        return tabs[-1]

    yield opened
    context.close()
    assert [complaint for tab in tabs for complaint in tab.complaints] == []


@pytest.fixture(scope="module")
def holiday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder, an empty one, and a talk of an hour."""
    folder = tmp_path_factory.mktemp("sent") / "holiday"
    (folder / "2026" / "beach").mkdir(parents=True)
    (folder / "nothing yet").mkdir()
    (folder / "notes.txt").write_text("Bring a towel.\n")
    (folder / "2026" / "beach" / "dunes.bin").write_bytes(random.Random(19).randbytes(300_000))
    with wave.open(str(folder / "2026" / "talk.wav"), "wb") as talk:
        talk.setnchannels(1)
        talk.setsampwidth(1)
        talk.setframerate(FRAMES_PER_S)
        talk.writeframes(random.Random(20).randbytes(FRAMES_PER_S) * 60 * MINUTES)
    return folder


def test_a_folder_dropped_here_is_listed_played_and_saved_there(
    volunteer: WebNetwork, client: DoorProcess, open_tab: OpenTab, holiday: Path, tmp_path: Path
) -> None:
    sender = open_tab(volunteer.url)
    sender.sees("peers")
    sender.drop(holiday)
    sender.page.get_by_role("textbox", name="Link to holiday").wait_for()
    sender.sees("survives the loss of any")
    sender.button("Copy link").click()
    sender.sees("Copied")
    link = sender.page.evaluate("navigator.clipboard.readText()")
    sender.button("QR code").click()
    sender.page.get_by_role("img", name="QR code of the link").wait_for()

    getter = open_tab(client.url)
    getter.view("Get")
    getter.page.get_by_label("Link", exact=True).fill(f" “<{link[:40]}\n {link[40:]}>.”")
    getter.button("Look").click()
    getter.button("Open the folder 2026").click()
    getter.button("Open the folder beach").click()
    getter.sees("dunes.bin")
    getter.sees("nothing yet")

    getter.button("Play talk.wav").click()
    getter.until("document.querySelector('audio')?.readyState > 0")
    getter.page.evaluate("() => { document.querySelector('audio').currentTime = 3000 }")
    getter.until("document.querySelector('audio').currentTime > 3000.2")

    getter.page.get_by_label("Save into").fill(str(tmp_path))
    getter.page.get_by_role("checkbox", name="Select beach").check()
    getter.button("Save 1 selected").click()
    getter.sees("Saved")
    saved = tmp_path / "holiday" / "2026"
    assert (saved / "beach" / "dunes.bin").read_bytes() == (holiday / "2026" / "beach" / "dunes.bin").read_bytes()
    assert not (saved / "talk.wav").exists()

    sender.front()
    sender.view("Yours")
    sender.button("Check now").click()
    sender.sees("Well")
    sender.button("Delete").click()
    sender.page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    sender.button("Delete").click()
    sender.page.get_by_role("dialog").get_by_role("button", name="Delete for everybody").click()
    sender.sees("You have sent nothing yet.")
    sender.view("Send")
    sender.page.get_by_text("survives the loss of any").wait_for(state="detached")


def test_a_send_goes_on_after_a_reload_and_a_restart_and_can_be_cancelled(
    client: DoorProcess, open_tab: OpenTab, tmp_path: Path
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(random.Random(21).randbytes(BIG_BYTES))
    spool = client.home / "web" / "sends"

    first, second = open_tab(client.url), open_tab(client.url)
    first.sees("peers")
    first.upload_at(SLOW_BYTES_PER_S)
    first.choose("Choose files", big)
    second.sees("Another tab is reading this")
    first.page.reload()
    first.sees("Stopped at")
    second.sees("Stopped at")
    first.upload_at(SLOW_BYTES_PER_S)
    first.choose("Choose again", big)
    first.sees("Reading from your disk")

    client.stop()
    first.sees("Your node does not answer.")
    client.start()
    first.sees("This tab has no key")
    third = open_tab(client.url)  # it hands its key to the older tabs, and the first goes on by itself
    first.front()
    first.upload_at(-1)
    link = first.page.get_by_role("textbox", name="Link to big.bin")
    link.wait_for()
    assert link.input_value().startswith("shoal:")
    assert third.page.get_by_role("textbox", name="Link to big.bin").input_value() == link.input_value()
    assert wait_until(lambda: not list(spool.rglob("big.bin")), "the bytes on this machine go when they are out there")

    other = tmp_path / "other.bin"
    shutil.copy(big, other)
    first.upload_at(SLOW_BYTES_PER_S)
    first.drop(other)
    third.sees("other.bin")
    first.button("Cancel sending other.bin").click()
    third.page.get_by_text("other.bin").wait_for(state="detached")
    assert wait_until(lambda: not list(spool.rglob("other.bin*")), "a cancelled send leaves no bytes")
    refused = ("Failed to load resource",)  # the browser's own words for a daemon that was away
    for tab in (first, second):
        tab.complaints[:] = [text for text in tab.complaints if not text.startswith(refused)]


def test_several_things_are_one_link_or_several(client: DoorProcess, open_tab: OpenTab, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_text("1")
    two.write_text("2")
    tab = open_tab(client.url)
    tab.sees("peers")
    tab.drop(one, two)
    tab.page.get_by_role("dialog").get_by_role("button", name="One link for all").click()
    tab.page.get_by_role("textbox", name="Link to one.txt and 1 more").wait_for()
    tab.drop(one, two)
    tab.page.get_by_role("dialog").get_by_role("button", name="2 links, one each").click()
    for name in ("one.txt", "two.txt"):
        tab.page.get_by_role("textbox", name=f"Link to {name}", exact=True).wait_for()


def test_every_view_is_for_all_eyes(volunteer: WebNetwork, open_tab: OpenTab, holiday: Path) -> None:
    """No view breaks a rule of axe, or is wider than its window. SHOAL_PICTURES=docs/pictures keeps what it shows."""
    from axe_playwright_python.sync_playwright import Axe

    pictures = os.environ.get("SHOAL_PICTURES")
    tab = open_tab(volunteer.url)
    tab.sees("peers")
    tab.drop(holiday)
    link = tab.page.get_by_role("textbox", name="Link to holiday").input_value()
    for view in VIEWS:
        tab.view(view)
        tab.page.get_by_role("heading", level=1).wait_for()
        if view == "Get":
            tab.page.get_by_label("Link", exact=True).fill(link)
            tab.button("Look").click()
            tab.button("Open the folder 2026").click()
            tab.sees("talk.wav")
        if view == "Yours":
            tab.button("Check now").click()
            tab.sees("Well")
        if view == "Node":
            tab.sees("Reachability")
        for is_dark, (width, height) in ((True, TELEPHONE), (False, DESKTOP)):
            tab.page.set_viewport_size({"width": width, "height": height})
            tab.page.emulate_media(color_scheme="dark" if is_dark else "light", reduced_motion="reduce")
            assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
            found = Axe().run(tab.page).response["violations"]
            assert [(each["id"], [node["target"] for node in each["nodes"]]) for each in found] == []
        if pictures:
            picture = smaller(tab.page.screenshot(full_page=True, animations="disabled"))
            assert len(picture) < MAX_PICTURE_BYTES
            (Path(pictures) / f"web-{view.lower()}.png").write_bytes(picture)


def test_the_keyboard_alone_is_enough(volunteer: WebNetwork, open_tab: OpenTab) -> None:
    tab = open_tab(volunteer.url)
    tab.sees("peers")
    press = tab.page.keyboard.press
    focused = "document.activeElement.textContent.trim()"
    press("Tab")
    assert tab.page.evaluate(focused) == "Skip to the content"
    for name in ("Shoal", "Send", "Get"):
        press("Tab")
        assert tab.page.evaluate(focused) == name
    press("Enter")
    tab.until("document.activeElement.tagName === 'H1'")
    press("Tab")
    tab.page.keyboard.type("no link at all")
    press("Enter")
    tab.page.get_by_role("alert").wait_for()
    press("Tab")
    press("Tab")
    assert tab.page.evaluate(focused) == "Try again"
    tab.complaints.clear()  # the browser tells of the refused link, too


def test_the_page_is_light_quick_and_silent(volunteer: WebNetwork, open_tab: OpenTab) -> None:
    tab = open_tab(volunteer.url)
    tab.sees("peers")
    assert "#" + volunteer.url.partition("#")[2] not in tab.page.url, "the token does not stay in the address"
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url))
    tab.page.reload()
    tab.sees("peers")
    own = [url for url in asked if "/api/" not in url]
    assert {url.startswith(volunteer.origin) for url in asked} == {True}
    bodies = [tab.page.request.get(url).body() for url in dict.fromkeys(own)]
    assert sum(map(len, bodies)) < MAX_PAGE_BYTES
    painted_ms = tab.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert painted_ms < 3_000  # alone on a machine it is a tenth of that, see docs/web.md
    asked.clear()
    tab.page.wait_for_timeout(1_000)
    assert asked == [], "a page at which nothing happens asks for nothing"
    written = "try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); true } catch { false }"
    assert not tab.page.evaluate(written), "no text becomes HTML"
    assert [text for text in tab.complaints if "TrustedHTML" not in text] == []
    tab.complaints.clear()


def test_a_name_shows_all_that_is_in_it(client: DoorProcess, open_tab: OpenTab) -> None:
    """Two names that differ must not look the same, and the picture of a family stays one picture."""
    tab = open_tab(client.url)
    unseen = "\u00ad\u061c\u180e\u200b\u200e\u202e\u2060\u2066\ufeff\n\x7f"
    asked = "names => import('./format.js').then(({ visible }) => names.map(visible))"
    shown = tab.page.evaluate(asked, [*unseen, "\U0001f468\u200d\U0001f469", "\u0645\u06cc\u200c\u0634"])
    assert shown == [f"\\u{ord(each):04x}" for each in unseen] + [
        "\U0001f468\u200d\U0001f469",
        "\u0645\u06cc\u200c\u0634",
    ]


def test_what_the_browser_cannot_read_is_named(client: DoorProcess, open_tab: OpenTab, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "good.txt").write_text("good")
    (folder / os.fsdecode(b"bad-\xff.txt")).write_text("no browser can name it")
    tab = open_tab(client.url)
    tab.sees("peers")
    tab.drop(folder)
    tab.sees("The browser cannot read “letters/")  # the name of the file is empty to it


def test_a_link_with_a_token_made_up_takes_no_tab_its_own(volunteer: WebNetwork, open_tab: OpenTab) -> None:
    """Any page can open a tab of ours, with any token in the address. Tabs that work must not take that one over."""
    mine = open_tab(volunteer.url)
    mine.sees("peers")
    own = mine.page.evaluate("sessionStorage.getItem('shoal-token')")
    theirs = open_tab(f"{volunteer.origin}/#{'A' * 43}")
    theirs.sees("This tab has no key")
    mine.page.wait_for_timeout(500)
    assert mine.page.evaluate("sessionStorage.getItem('shoal-token')") == own
    mine.view("Node")
    mine.sees("The last 24 hours")
    for tab in (mine, theirs):
        tab.complaints.clear()  # the browser tells of the token that the door refused
