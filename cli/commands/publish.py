"""`shoal publish`: encrypt a file or a folder, spread it over volunteers, print its link."""

import os
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code, CommandError, OutputClosedError
from shoal.cli.folders import FolderOptions, is_one_file, tell_skipped, walk_tree
from shoal.cli.output import Output, visible
from shoal.cli.tables import day
from shoal.cli.units import (
    UnitError,
    exact_duration,
    format_rate,
    format_size,
    parse_count,
    parse_duration,
    plural,
)
from shoal.values import dataclass

if TYPE_CHECKING:
    from shoal.node import Invitation, Node, Published, Tree

STDIN = "-"
DEFAULT_TTL = "90d"  # the longest lease there is
STDIN_CHUNK_BYTES = 256 * 1024  # a pipe holds 64 KiB by default, 1 MiB at most; more per read brings nothing
FULL_WIDTH_MIN = 12  # a default width below this means that few hosts accept files at all


# Reasons as the library counts them, in the words of a sentence about hosts; others are told as they are.
_REASON_WORDS = {
    "busy": "{hosts} {were} busy.",
    "full": "{hosts} {were} full.",
    "no answer": "{hosts} did not answer.",
    "refused": "{hosts} refused.",
    "stalled": "{hosts} {were} too slow.",
    "lost what it had": "{hosts} lost the bytes received.",
    "has other bytes": "{hosts} had other bytes from an earlier run.",
    "another time": "{hosts} {have} another time than this machine: look at its clock.",
    "another network": "{hosts} {belong} to another network.",
    "broke the protocol": "{hosts} broke the protocol.",
}
_VERBS = {"were": "was", "have": "has", "belong": "belongs"}


@dataclass(frozen=True, slots=True)
class Order:
    """What to publish and how; None leaves a choice to the library."""

    sources: tuple[str, ...]
    name: str | None
    needed: int | None
    total: int | None
    happy: int | None
    ttl_s: int
    public: bool
    selection: FolderOptions = field(default_factory=FolderOptions)
    qr: bool = False

    @property
    def code(self) -> tuple[int, int] | None:
        """Shares needed and in all where at least one was chosen, the other by the expansion; None for neither."""
        from shoal.erasure import chosen_code

        return chosen_code(self.needed, self.total)

    @property
    def from_stdin(self) -> bool:
        """Whether the bytes come from standard input: then they come once only."""
        return self.sources == (STDIN,)


def publish(
    context: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH|-", help="A file, a folder, or several, which become a folder; - for standard input."
        ),
    ],
    needed: Annotated[
        str | None,
        typer.Option(
            "--needed",
            metavar="K",
            help="Shares needed to read the file.",
            show_default="a third of --total, else chosen by size and hosts",
        ),
    ] = None,
    total: Annotated[
        str | None,
        typer.Option("--total", metavar="N", help="Shares in all, at most 256.", show_default="3 x --needed"),
    ] = None,
    happy: Annotated[
        str | None,
        typer.Option("--happy", metavar="H", help="Hosts that must take a share.", show_default="3/4 of N"),
    ] = None,
    ttl: Annotated[
        str, typer.Option("--ttl", metavar="TIME", help="How long to keep the file: 1h to 90d, such as 12h, 3d, 2w.")
    ] = DEFAULT_TTL,
    public: Annotated[
        bool,
        typer.Option("--public", help="Anyone with the hash can read it, hosts included."),
    ] = False,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The name for those who fetch it.")] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="GLOB",
            help="Leave out of a folder what this matches, as a line of a .gitignore does. Repeatable.",
            show_default=False,
        ),
    ] = None,
    exclude_from: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude-from", metavar="FILE", help="Read such lines from a file. Repeatable.", show_default=False
        ),
    ] = None,
    gitignore: Annotated[
        bool, typer.Option("--gitignore", help="Leave out what each .gitignore in the folder names.")
    ] = False,
    symlinks: Annotated[
        str,
        typer.Option(
            "--symlinks",
            metavar="store|skip|follow",
            help="What becomes of symbolic links: kept as links, left out, or replaced by what they lead to.",
        ),
    ] = "store",
    one_file_system: Annotated[
        bool, typer.Option("--one-file-system", help="Do not enter folders where another file system is mounted.")
    ] = False,
    skip_unreadable: Annotated[
        bool,
        typer.Option("--skip-unreadable", help="Leave out what cannot be read, and say each. Exit code 3 then."),
    ] = False,
    qr: Annotated[
        bool, typer.Option("--qr", help="Show the link as a QR code, too, on standard error. Not with --json.")
    ] = False,
) -> Job:
    """Encrypt a file or a folder, spread it over volunteers and print its link.

    The link alone goes to standard output. Anybody with it can read the file: keep it secret, or say --public.

    A folder is published whole or not at all, unless you say --skip-unreadable. It may have a million entries.
    """
    order = Order(
        sources=tuple(paths),
        name=name,
        needed=_count("--needed", needed),
        total=_count("--total", total),
        happy=_count("--happy", happy),
        ttl_s=lease("--ttl", ttl),
        public=public,
        selection=FolderOptions(
            exclude=tuple(exclude or ()),
            exclude_from=tuple(exclude_from or ()),
            gitignore=gitignore,
            symlinks=symlinks,
            one_file_system=one_file_system,
            skip_unreadable=skip_unreadable,
        ),
        qr=qr,
    )
    _check(order)
    settings = globals_of(context)
    if qr and settings.output.json:
        raise BadUsageError("--qr is for people. With --json there is the link alone.")
    return settings.job(lambda: _publish(settings, order))


def _count(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    from shoal.erasure import MAX_SHARES

    try:
        return parse_count(text, least=1, most=MAX_SHARES)
    except UnitError as error:
        raise BadUsageError(f"{option}: {error}.") from error


def lease(option: str, text: str) -> int:
    """The seconds that an option asks for. BadUsageError for what no host would grant."""
    try:
        lease_s = parse_duration(text)
    except UnitError as error:
        raise BadUsageError(f"{option}: {error}.") from error
    if text == DEFAULT_TTL:
        return lease_s
    from shoal.node.formats import MAX_LEASE_S, MIN_LEASE_S

    if not MIN_LEASE_S <= lease_s <= MAX_LEASE_S:
        raise BadUsageError(
            f"{option}: {text!r} is not from {exact_duration(MIN_LEASE_S)} to {exact_duration(MAX_LEASE_S)}. "
            "To keep a file for longer, renew it."
        )
    return lease_s


def _check(order: Order) -> None:
    if any(not path or "\0" in path for path in order.sources):
        raise BadUsageError("The path of the file to publish is empty or contains a NUL character.")
    if STDIN in order.sources and not order.from_stdin:
        raise BadUsageError(
            "Standard input cannot be part of a folder. Publish it alone, or name ./- if a file is meant."
        )
    order.selection.check()
    if (order.needed, order.total, order.happy) != (None, None, None):
        _check_code(order)
    if order.from_stdin and sys.stdin is None:
        raise BadUsageError("Standard input is closed: there is nothing to publish.")


def _check_code(order: Order) -> None:
    from shoal.erasure import MAX_SHARES

    least, most = order.code or (1, MAX_SHARES)
    if least > most:
        raise BadUsageError(f"--needed {least} is more than --total {most}.")
    if order.happy is not None and not least <= order.happy <= most:
        raise BadUsageError(
            f"--happy {order.happy} is not between {least} and {most}, the shares needed and the shares in all."
        )


async def _publish(settings: Globals, order: Order) -> int:
    from shoal.cli.progress import open_progress

    output = settings.output
    output.interrupt_hint = (
        "What came from standard input must be published again from the start."
        if order.from_stdin
        else "Run the same command again to go on from here."
    )
    typed = order.from_stdin and sys.stdin.isatty()
    if typed:
        output.note("Reading from the terminal. End with Ctrl-D.")
    tree: Tree | None = None
    async with settings.open_client() as node, open_progress(output, drawn=not typed) as progress:
        if not order.from_stdin and not is_one_file(order.sources):
            tree = await walk_tree(node, order.sources, order.selection, order.name, progress)
            tell_skipped(output, tree)
        done = await node.publish(
            tree or (_stdin_chunks() if order.from_stdin else order.sources[0]),
            name=order.name,
            needed=order.needed,
            total=order.total,
            happy=order.happy,
            public=order.public,
            ttl_s=order.ttl_s,
            on_progress=progress,
        )
        invite = await invite_to_it(node)
    skipped = 0 if tree is None else len(tree.skipped)
    report(settings, order, done, skipped, invite)
    return Code.OK if done.complete and not skipped else Code.PARTIAL


async def _stdin_chunks() -> AsyncIterator[bytes]:
    """Standard input, whatever it is. A thread reads, because for files there is no waiting for readiness."""
    import trio

    while chunk := await trio.to_thread.run_sync(os.read, 0, STDIN_CHUNK_BYTES, abandon_on_cancel=True):
        yield chunk


async def invite_to_it(node: "Node") -> "Invitation | None":
    """The invite that those who fetch need; None where every copy of Shoal is on this network, or it has rules that no
    invite can carry."""
    from shoal.node import UsageError, is_shipped

    if is_shipped(node.context.network):
        return None
    try:
        return await node.invite()
    except UsageError:
        return None


def report(
    settings: Globals, order: Order, done: "Published", skipped: int = 0, invite: "Invitation | None" = None
) -> None:
    """The link on standard output; around it, for people, what was reached and what it survives.

    skipped: how many things are not in the folder, because they cannot be read.
    """
    output = settings.output
    if done.complete:
        output.note(success_words(done))
        _warn_of_width(settings, order, done)
    else:
        output.complain(settings.in_full(partial_words(done, resumable=not order.from_stdin)))
    deliver(output, str(done.link))
    if order.qr:
        from shoal.cli.qr import qr_text

        output.complain(qr_text(str(done.link)))
    if output.interactive:
        output.note(fetch_words(settings, done, invite))
    if skipped:
        left_out = plural(skipped, "thing is", "things are")
        output.complain(f"{left_out} not in the folder, because of what was said above.")
    output.summary(**summary_fields(done, skipped, invite))


def fetch_words(settings: Globals, done: "Published", invite: "Invitation | None") -> str:
    """How to fetch a file: here, and on a machine that knows nothing of this network."""
    here = settings.command("fetch", str(done.link), with_home=False)
    if invite is None:
        return f"Fetch it with:\n  {here}"
    if invite.is_local:
        return f"Fetch it with:\n  {here}\nAll peers are on this machine: from another one it cannot be fetched."
    there = shlex.join(["shoal", "--network", invite.text, "fetch", str(done.link)])
    return f"Fetch it with:\n  {here}\nOn another machine, with the network in the command:\n  {there}"


def deliver(output: Output, link: str) -> None:
    """Print the link. When nobody takes it, the file is published all the same: say where the link can be had."""
    try:
        output.result(link)
    except (OutputClosedError, CommandError):
        output.complain(output.in_full("The link could not be written to standard output. See it with: shoal ls"))
        raise


def summary_fields(done: "Published", skipped: int = 0, invite: "Invitation | None" = None) -> dict[str, object]:
    """The JSON summary. `skipped` as for `report`."""
    return {
        "link": str(done.link),
        "id": done.link.hash,
        "kind": "file" if done.entries is None else "directory",
        "entries": done.entries,
        "skipped": skipped,
        "size": done.size,
        "k": done.k,
        "n": done.n,
        "possible_n": max(done.n, done.possible_n),
        "happy": done.happy,
        "shares": done.shares,
        "hosts": done.hosts,
        "seconds": round(done.seconds, 3),
        "sent_bytes": done.sent_bytes,
        "resumed_bytes": done.resumed_bytes,
        "lease_until": round(done.lease_until),
        "complete": done.complete,
        "refusals": dict(done.refusals),
        "invite": None if invite is None else invite.text,
    }


def success_words(done: "Published") -> str:
    """What a publish that reached its aim tells people."""
    earlier = _sent_earlier(done)
    now = done.size - earlier
    rate = f" ({format_rate(now / done.seconds)})" if now and done.seconds > 0 else ""
    resumed = f", {format_size(earlier)} of it sent earlier" if earlier else ""
    return (
        f"Published {_what(done)}{format_size(done.size)} in {done.seconds:.1f} s{rate}{resumed}: "
        f"{plural(done.shares, 'share')} on {plural(done.hosts, 'host')}; {_survival(done)}; "
        f"kept until {day(done.lease_until)}."
    )


def _what(done: "Published") -> str:
    return "" if done.entries is None else f"a folder of {plural(done.entries, 'entry', 'entries')} and "


def _sent_earlier(done: "Published") -> int:
    """How much of the file an earlier run had sent: the same part as of the share bytes."""
    return done.size * done.resumed_bytes // max(1, done.resumed_bytes + done.sent_bytes)


def _survival(done: "Published") -> str:
    if done.survives <= 0:
        return "survives the loss of no host"
    return f"survives the loss of any {plural(done.survives, 'host')}"


def partial_words(done: "Published", *, resumable: bool) -> str:
    """What was reached, what that survives, what was wanted, why it fell short, what to do: in this order."""
    survives = (
        f"the file survives the loss of any {done.survives} of them"
        if done.survives > 0
        else "the file survives the loss of none of them"
    )
    lines = [
        f"Published {done.shares} of {done.n} shares on {plural(done.hosts, 'host')}: {survives} "
        f"(wanted: {plural(done.happy, 'host')}). Kept until {day(done.lease_until)}.",
        *refusal_sentences(done.refusals),
        _advice(done, resumable=resumable),
    ]
    return " ".join(lines)


def _advice(done: "Published", *, resumable: bool) -> str:
    """What to do about a publish that fell short, and only what can come true."""
    if done.narrowed:
        return (
            f"With them the file could have {done.possible_n} shares instead of {done.n}. "
            "Make it wider later with: shoal republish LINK"
        )
    if not done.can_complete:
        return (
            f"This file has only {plural(done.n, 'share')}, so {plural(done.happy, 'host')} will never have one. "
            f"Publish it again when the network has {plural(done.happy, 'host')}; that makes a new link."
        )
    return (
        "Run the same command again to complete it."
        if resumable
        else "Publish it again when the network has more hosts."
    )


def refusal_sentences(refusals: Mapping[str, int]) -> list[str]:
    """One sentence per reason hosts gave, the commonest first."""
    by_count = sorted(refusals.items(), key=lambda item: (-item[1], item[0]))
    return [_refusal_sentence(reason, count) for reason, count in by_count if count > 0]


def _refusal_sentence(reason: str, count: int) -> str:
    words = _REASON_WORDS.get(reason, "{hosts} dropped out: " + visible(reason).replace("{", "").replace("}", "") + ".")
    one = count == 1
    verbs = {many: single if one else many for many, single in _VERBS.items()}
    return words.format(hosts=plural(count, "host"), **verbs)


def _warn_of_width(settings: Globals, order: Order, done: "Published") -> None:
    if done.hosts < done.n:
        reached = f"{done.hosts} of {done.n} hosts have a share; at least {done.happy} were wanted."
        settings.output.warn(" ".join((reached, *refusal_sentences(done.refusals))))
    elif order.code is None and done.n < FULL_WIDTH_MIN:
        thin = f"Only {plural(done.n, 'host')} took a share, so the file is spread thinly."
        again = "When the network has more hosts, make it wider with: shoal republish LINK"
        settings.output.warn(settings.in_full(" ".join((thin, *refusal_sentences(done.refusals), again))))
