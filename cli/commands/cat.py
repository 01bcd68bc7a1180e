"""`shoal cat`: a file, or a range of its bytes, on standard output."""

import os
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import LinkFileOption, PathLinkArgument
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.stdout import write_stdout
from shoal.cli.units import UnitError, format_size, parse_size, plural
from shoal.values import dataclass

if TYPE_CHECKING:
    from shoal.cli.progress import ProgressDisplay
    from shoal.erasure import Link
    from shoal.node import RemoteFile


def cat(
    context: typer.Context,
    link: PathLinkArgument = None,
    offset: Annotated[
        str, typer.Option("--offset", metavar="SIZE", help="Where to begin: so many bytes from the start of the file.")
    ] = "0",
    length: Annotated[
        str | None,
        typer.Option("--length", metavar="SIZE", help="How much to write.", show_default="to the end of the file"),
    ] = None,
    link_file: LinkFileOption = None,
) -> Job:
    """Write a file, or a part of it, to standard output.

    Only the part that is asked for is fetched, in segments of some hundred kilobytes. A link that ends with a path
    writes that file of a folder.

    To fetch a whole file, use shoal fetch: it goes on where it stopped, and renews the file.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    start, most = _size("--offset", offset), None if length is None else _size("--length", length)
    wanted = take_link(link, link_file, needs_key=True, takes_path=True, settings=settings)
    settings.output.file_takes_stdout()
    return settings.job(lambda: _cat(settings, wanted, start, most))


def _size(option: str, text: str) -> int:
    try:
        return parse_size(text)
    except UnitError as error:
        raise BadUsageError(f"{option}: {error}.") from error


@dataclass(frozen=True, slots=True)
class WrittenRange:
    """What was written: `length` bytes from `offset` on, of a file of `size` bytes. `path`: in a folder, else None."""

    path: str | None
    name: str | None
    size: int
    offset: int
    length: int
    seconds: float
    received_bytes: int


async def _cat(settings: Globals, link: "Link", offset: int, length: int | None) -> int:
    import trio

    from shoal.cli.progress import open_progress
    from shoal.node import RemoteFile

    output = settings.output
    started = trio.current_time()
    async with (
        settings.open_client() as node,
        open_progress(output, drawn=not output.results_on_terminal) as progress,
        node.open_remote(link) as remote,
    ):
        if not isinstance(remote, RemoteFile):
            raise BadUsageError("This is a folder. See what is in it with: shoal ls LINK")
        written = await _write(remote, offset, length, progress)
        path = os.fsdecode(link.path) if link.path else None
        seconds = trio.current_time() - started
        done = WrittenRange(path, remote.name, remote.size, offset, written, seconds, remote.received_bytes)
    output.detail(f"Wrote {format_size(written)}, and received {format_size(done.received_bytes)} for it.")
    output.summary(**summary_fields(done))
    return Code.OK


async def _write(remote: "RemoteFile", offset: int, length: int | None, progress: "ProgressDisplay") -> int:
    """Write a range; how many bytes there were. BadUsageError where it begins behind the end."""
    from shoal.node import Phase, Progress

    if offset > remote.size:
        raise BadUsageError(f"--offset {offset} is behind the end of the file. It has {plural(remote.size, 'byte')}.")
    total = min(remote.size - offset, remote.size if length is None else length)
    written = 0
    async with aclosing(remote.chunks(offset, total)) as chunks:
        async for chunk in chunks:
            await write_stdout(chunk)
            written += len(chunk)
            progress(Progress(Phase.FETCHING, written, total))
    return written


def summary_fields(done: WrittenRange) -> dict[str, object]:
    """The JSON summary."""
    return asdict(done) | {"seconds": round(done.seconds, 3)}
