"""Checking a file: how many of its shares can be proven to be there now, and how much loss it would survive."""

from dataclasses import replace

import trio

from shoal.erasure import FileId
from shoal.node.context import Context
from shoal.node.holders.search import Search
from shoal.node.holders.width import look_for_width
from shoal.node.repairing.audit import Audit, Audited
from shoal.node.repairing.verification import Verification
from shoal.node.results import Checked, OnProgress, Phase, Progress


async def check_file(
    context: Context, file_id: FileId, *, verify: bool = False, on_progress: OnProgress | None = None
) -> Checked:
    """See `Node.check`."""
    started = trio.current_time()
    report = on_progress or _silent
    report(Progress(Phase.SEARCHING))
    located = await Search(context, file_id).run()
    report(Progress(Phase.CHECKING))
    audited = await Audit(context, located.manifest).run(located.hints)
    if verify:
        await _verify(context, audited, report)
    checked = _result(context, audited, verified=verify, started=started)
    if checked.deleted or not checked.readable:
        return checked
    width = await look_for_width(context, located.manifest)
    return replace(checked, width=width, seconds=trio.current_time() - started)


def _silent(progress: Progress) -> None:
    return


async def _verify(context: Context, audited: Audited, report: OnProgress) -> None:
    good = audited.tally.good
    total = len(good) * audited.manifest.layout.share_bytes
    done = 0

    def on_bytes(count: int) -> None:
        nonlocal done
        done += count
        report(Progress(Phase.CHECKING, done, total, len(good), audited.manifest.n, audited.tally.hosts))

    await Verification(context, audited, on_bytes).run()


def _result(context: Context, audited: Audited, *, verified: bool, started: float) -> Checked:
    tally = audited.tally
    return Checked(
        file_id=audited.manifest.id,
        k=tally.k,
        n=tally.n,
        good_shares=len(tally.placed()),
        hosts=tally.hosts,
        networks=tally.networks,
        readable=tally.readable,
        survives=tally.survives(),
        lease_until=tally.lease_until(context.env.wall()),
        outcomes=tally.outcomes(),
        read_bytes=audited.read_bytes,
        verified=verified,
        deleted=audited.deletion is not None,
        seconds=trio.current_time() - started,
    )
