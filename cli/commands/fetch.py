"""`shoal fetch`: get a file or a folder back from its link."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.arguments import LinkFileOption, PathLinkArgument
from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError
from shoal.cli.output import visible
from shoal.cli.stdout import write_stdout
from shoal.cli.units import format_rate, format_size, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shoal.cli.progress import ProgressDisplay
    from shoal.erasure import Link
    from shoal.node import Fetched, Node, RemoteFolder

STDOUT = "-"
MOST_SHOWN = 5  # of links that were left out, by name


def fetch(
    context: typer.Context,
    link: PathLinkArgument = None,
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Parts of a folder to get, each at its place in it.", show_default="all"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="PATH|DIR|-",
            help="Where to write it; - for a file on standard output.",
            show_default="its own name, in this folder",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing file, or an existing folder with all that is in it.")
    ] = False,
    tar: Annotated[bool, typer.Option("--tar", help="Write a folder to standard output as a tar archive.")] = False,
    link_file: LinkFileOption = None,
) -> Job:
    """Get a file or a folder back from its link, checked to the last byte.

    A link that ends with a path gets what is there. Other users of this machine can see a command line. To hide the
    link, use --link-file, $SHOAL_LINK or standard input.

    An interrupted fetch leaves a .part file or folder. The same command goes on from there.
    """
    from shoal.cli.links import take_link_and_paths

    settings = globals_of(context)
    wanted, inner = take_link_and_paths(link, paths or [], link_file, settings=settings)
    if tar:
        _check_tar(settings, out, force)
        settings.output.file_takes_stdout()
        return settings.job(lambda: _to_tar(settings, wanted, inner))
    if out == STDOUT:
        if inner:
            raise BadUsageError("A folder cannot be written to standard output as it is. Use --tar.")
        settings.output.file_takes_stdout()
        return settings.job(lambda: _to_stdout(settings, wanted))
    target = _target(out)
    return settings.job(lambda: _to_disk(settings, wanted, inner, target, force))


def _check_tar(settings: Globals, out: str | None, force: bool) -> None:
    if out not in (None, STDOUT) or force:
        raise BadUsageError("--tar writes to standard output. For an archive on disk: shoal fetch LINK --tar > FILE")
    if settings.output.results_on_terminal:
        raise BadUsageError("A terminal cannot show a tar archive. Write it to a file, or to a pipe: | tar x")


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


async def _to_disk(settings: Globals, link: "Link", paths: "Sequence[bytes]", target: Path | None, force: bool) -> int:
    from shoal.cli.progress import open_progress

    output = settings.output
    output.interrupt_hint = "Run the same command again to go on from here."
    async with settings.open_client() as node, open_progress(output) as progress:
        done = await node.fetch(link, target, paths=paths, force=force, on_progress=progress)
    return _told(settings, done)


async def _to_stdout(settings: Globals, link: "Link") -> int:
    import trio

    from shoal.cli.progress import open_progress

    started = trio.current_time()
    async with settings.open_client() as node, open_progress(settings.output) as progress:
        send = _part_to_stdout if link.path else _file_to_stdout
        done = await send(node, link, progress)
    return _told(settings, replace(done, seconds=trio.current_time() - started))


async def _file_to_stdout(node: "Node", link: "Link", progress: "ProgressDisplay") -> "Fetched":
    from shoal.node import Fetched

    async with node.open_fetch(link, on_progress=progress) as stream:
        async for chunk in stream:
            await write_stdout(chunk)
        return Fetched(None, stream.name, stream.size, 0, stream.received_bytes, 0)


async def _part_to_stdout(node: "Node", link: "Link", progress: "ProgressDisplay") -> "Fetched":
    from contextlib import aclosing

    from shoal.node import Fetched, Phase, Progress, RemoteFolder

    async with node.open_remote(link) as file:
        if isinstance(file, RemoteFolder):
            raise BadUsageError("A folder cannot be written to standard output as it is. Use --tar.")
        done = 0
        async with aclosing(file.chunks(0, file.size)) as chunks:
            async for chunk in chunks:
                await write_stdout(chunk)
                done += len(chunk)
                progress(Progress(Phase.FETCHING, done, file.size))
        return Fetched(None, file.name, file.size, 0, file.received_bytes, 0)


async def _to_tar(settings: Globals, link: "Link", paths: "Sequence[bytes]") -> int:
    import trio

    from shoal.cli.progress import open_progress
    from shoal.node import RemoteFolder

    started = trio.current_time()
    async with (
        settings.open_client() as node,
        open_progress(settings.output) as progress,
        node.open_remote(link) as remote,
    ):
        if not isinstance(remote, RemoteFolder):
            raise BadUsageError("This link is of a file and not of a folder. Leave --tar out.")
        done = await _tar_of(remote, paths, progress)
    return _told(settings, replace(done, seconds=trio.current_time() - started))


async def _tar_of(folder: "RemoteFolder", paths: "Sequence[bytes]", progress: "ProgressDisplay") -> "Fetched":
    import time
    from contextlib import aclosing

    from shoal.node import Fetched, Phase, Progress
    from shoal.node.fetching.selection import PathSelection
    from shoal.node.fetching.tar_stream import TarStream

    stream = TarStream(PathSelection(folder, paths), time.time())
    async with aclosing(stream.chunks()) as chunks:
        async for chunk in chunks:
            await write_stdout(chunk)
            progress(Progress(Phase.FETCHING, stream.size, done_files=stream.files))
    return Fetched(
        None,
        folder.name,
        stream.size,
        0,
        folder.received_bytes,
        0,
        entries=stream.entries,
        left_out=stream.left_out,
        left_out_paths=tuple(stream.left_out_paths),
    )


def _told(settings: Globals, done: "Fetched") -> int:
    """Say what came of it; the exit code."""
    output = settings.output
    output.note(words(done))
    if done.left_out:
        output.complain(left_out_words(done))
    output.summary(**summary_fields(done))
    return Code.PARTIAL if done.left_out else Code.OK


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
        "entries": done.entries,
        "left_out": done.left_out,
    }


def words(done: "Fetched") -> str:
    """What a finished fetch tells people."""
    where = "" if done.path is None else f" {visible(str(done.path))}"
    what = "" if done.entries is None else f"{plural(done.entries, 'entry', 'entries')}, "
    resumed = f", {format_size(done.resumed_bytes)} of it fetched earlier" if done.resumed_bytes else ""
    return (
        f"Fetched{where}: {what}{format_size(done.size)} in {done.seconds:.1f} s"
        f"{_rate(done.size - done.resumed_bytes, done.seconds)}{resumed}."
    )


def left_out_words(done: "Fetched") -> str:
    """Which symbolic links are not there, and why."""
    shown = [visible(os.fsdecode(path)) for path in done.left_out_paths[:MOST_SHOWN]]
    more = ", …" if done.left_out > len(shown) else ""
    return (
        f"{plural(done.left_out, 'symbolic link')} would lead out of the folder and "
        f"{'was' if done.left_out == 1 else 'were'} left out: {', '.join(shown)}{more}"
    )


def _rate(size: int, seconds: float) -> str:
    return f" ({format_rate(size / seconds)})" if size > 0 and seconds > 0 else ""
