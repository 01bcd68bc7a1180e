"""`shoal web`: Shoal as a page in a browser, on this machine alone."""

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.units import UnitError, parse_count

if TYPE_CHECKING:
    from shoal.doors.web import DoorNote
    from shoal.node import Home

MAX_PORT = 65_535

PortOption = Annotated[
    str | None,
    typer.Option(
        "--port",
        metavar="N",
        help="Port of the page, on this machine alone.",
        show_default="4780, or a free one where that is taken",
    ),
]


def web(
    context: typer.Context,
    link: Annotated[
        str | None,
        typer.Argument(metavar="LINK", help="Open the page to get what this link is of.", show_default=False),
    ] = None,
    port: PortOption = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, and open no browser.")] = False,
    register: Annotated[
        bool,
        typer.Option("--register", help="Have the desktop open shoal: links with this command, and do nothing else."),
    ] = False,
) -> Job:
    """Open Shoal as a page in your browser: send, get, and see how the node does.

    It runs until you stop it with Ctrl-C, beside the node of this home or without one. Where the page is open
    already, it is opened in the browser once more.

    The address is a secret: anybody with it can use all that this home has. It is good until the command ends.
    """
    settings = globals_of(context)
    number = port_number(port)
    if register:
        if link is not None or port is not None or no_open:
            raise BadUsageError("--register does nothing else: give it alone.")
        return Job(settings.output, lambda: _register(settings))
    text = None if link is None else _link_text(link)
    return settings.job(lambda: _web(settings, number, text, opens=not no_open))


def port_number(text: str | None) -> int | None:
    """The port that was typed. BadUsageError for what is none."""
    if text is None:
        return None
    try:
        return parse_count(text, least=1, most=MAX_PORT)
    except UnitError as error:
        raise BadUsageError(f"--port: {error}.") from error


def _link_text(text: str) -> str:
    from shoal.cli.links import take_link

    return str(take_link(text, None, needs_key=False, takes_path=True))


async def _web(settings: Globals, port: int | None, link: str | None, *, opens: bool) -> int:
    from shoal.doors.web import open_door, read_door_note
    from shoal.node import AlreadyRunning

    home = settings.locate_home()
    settings.output.interrupt_hint = "The page is closed."
    async with settings.open_client() as node:
        try:
            async with open_door(node, settings.load_network(), port) as door:
                tell(settings, home, door.note, link, opens=opens)
                await wait_for_end()
        except AlreadyRunning:
            note = read_door_note(home)
            if note is None or port not in (None, note.port):
                raise
            tell(settings, home, note, link, opens=opens)
            settings.output.summary(url=note.url(link), port=note.port)
    return Code.OK


async def wait_for_end() -> None:
    """Until a signal cancels it."""
    import trio

    await trio.sleep_forever()


def tell(settings: Globals, home: "Home", note: "DoorNote", link: str | None = None, *, opens: bool) -> None:
    """Print the address of the page, and open it in the browser of this desktop."""
    from shoal.doors.web import write_opener

    url = note.url(link)
    settings.output.result(url)
    settings.output.status(event="web", url=url, port=note.port)
    if opens and not _open_browser(write_opener(home, url).as_uri()):
        settings.output.note("No browser could be opened here. Open the address above in one, on this machine.")


def _open_browser(address: str) -> bool:
    """Whether a graphical browser was started. It must neither end with this command nor write into its output."""
    opener = shutil.which("xdg-open") or shutil.which("open")
    if opener is None or (opener.endswith("xdg-open") and not _has_display()):
        return False
    try:
        subprocess.Popen(
            [opener, address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    return True


def _has_display() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _register(settings: Globals) -> int:
    from shoal.cli.desktop import register

    path = register(settings)
    settings.output.result(f"shoal: links open the page of Shoal now. This is written in {path}")
    settings.output.summary(file=str(path))
    return Code.OK
