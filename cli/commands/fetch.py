"""`shoal fetch`: get a file back from its link."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import LinkArgument, LinkFileOption
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError, OutputClosedError
from shoal.cli.output import abandon, visible
from shoal.cli.units import format_rate, format_size

if TYPE_CHECKING:
    from shoal.erasure import Link
    from shoal.node import Fetched

STDOUT = "-"


def fetch(
    context: typer.Context,
    link: LinkArgument = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="PATH|DIR|-",
            help="Where to write the file; - for standard output.",
            show_default="its own name, in this folder",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    link_file: LinkFileOption = None,
) -> Job:
    """Get a file back from its link, checked to the last byte.

    Other users of this machine can see a command line. To hide the link, use --link-file, $SHOAL_LINK or standard
    input.

    An interrupted fetch leaves a .part file. The same command goes on from there.
    """
    from shoal.cli.links import take_link

    settings = globals_of(context)
    wanted = take_link(link, link_file, needs_key=True, settings=settings)
    if out == STDOUT:
        settings.output.file_takes_stdout()
        return settings.job(lambda: _to_stdout(settings, wanted))
    target = _target(out)
    return settings.job(lambda: _to_file(settings, wanted, target, force))


def _target(out: str | None) -> Path | None:
    if out is None:
        return None
    if not out or "\0" in out:
        raise BadUsageError("-o: the path is empty or contains a NUL character.")
    path = Path(out)
    if out.endswith("/") and not path.is_dir():
        raise CommandError(f"{visible(out)} is not an existing folder. Make it first, or name a file.")
    if path.exists() and not path.is_dir() and not path.is_file():
        # A fetched file takes its place by a rename, which would put it where /dev/null or a pipe has been.
        shown = visible(out)
        raise CommandError(f"{shown} is a device or a pipe. Write there with: shoal fetch LINK -o - > {shown}")
    return path


async def _to_file(settings: Globals, link: "Link", target: Path | None, force: bool) -> int:
    from shoal.cli.progress import open_progress

    output = settings.output
    output.interrupt_hint = "Run the same command again to go on from here."
    async with settings.open_client() as node, open_progress(output) as progress:
        done = await node.fetch(link, target, force=force, on_progress=progress)
    output.note(words(done))
    output.summary(**summary_fields(done))
    return Code.OK


async def _to_stdout(settings: Globals, link: "Link") -> int:
    import trio

    from shoal.cli.progress import open_progress
    from shoal.node import Fetched

    output = settings.output
    started = trio.current_time()
    async with (
        settings.open_client() as node,
        open_progress(output) as progress,
        node.open_fetch(link, on_progress=progress) as stream,
    ):
        async for chunk in stream:
            await trio.to_thread.run_sync(_write_stdout, chunk, abandon_on_cancel=True)
        name = None if stream.name is None else os.fsdecode(stream.name)
        done = Fetched(None, name, stream.size, trio.current_time() - started, stream.received_bytes, 0)
    output.note(words(done))
    output.summary(**summary_fields(done))
    return Code.OK


def _write_stdout(chunk: bytes) -> None:
    """Blocking. OutputClosedError when the reader has gone, which is its right."""
    if sys.stdout is None:
        raise OutputClosedError
    try:
        view = memoryview(chunk)
        while view:
            view = view[os.write(1, view) :]
    except BrokenPipeError as error:
        abandon(sys.stdout)
        raise OutputClosedError from error
    except OSError as error:
        abandon(sys.stdout)
        raise CommandError(f"Cannot write the file to standard output: {error.strerror}.") from error


def summary_fields(done: "Fetched") -> dict[str, object]:
    """The JSON summary."""
    return {
        "path": None if done.path is None else str(done.path),
        "name": done.name,
        "size": done.size,
        "seconds": round(done.seconds, 3),
        "received_bytes": done.received_bytes,
        "resumed_bytes": done.resumed_bytes,
        "lease_until": None if done.lease_until is None else round(done.lease_until),
    }


def words(done: "Fetched") -> str:
    """What a finished fetch tells people."""
    where = "" if done.path is None else f" {visible(str(done.path))}"
    resumed = f", {format_size(done.resumed_bytes)} of it fetched earlier" if done.resumed_bytes else ""
    return (
        f"Fetched{where}: {format_size(done.size)} in {done.seconds:.1f} s"
        f"{_rate(done.size - done.resumed_bytes, done.seconds)}{resumed}."
    )


def _rate(size: int, seconds: float) -> str:
    return f" ({format_rate(size / seconds)})" if size > 0 and seconds > 0 else ""
