"""Hard use, all at once: daemons die, sleep, change addresses, fill their disks and have their clocks moved.

A publisher, a fetcher and somebody who looks run the whole time, all with the `shoal` command on a private network of
real daemons on loopback. What the commands say is compared with what is so: fetched bytes with published ones, `check`
with the disks of the machines, `node status` with what was done to that machine.

The faults take away no more than a file can bear: before each one, K + 1 different shares of every file are on machines
that run, are awake and have the right time, without the machine that it strikes. At most a third is away at a time.

    .venv/bin/python benchmarks/hard_use.py --minutes 30 --nodes 14 --seed 1

Small disks need `unshare -rm`, moved clocks need libfaketime (Debian: libfaketime). What is not there is left out, and
the table says so. It ends with 1 where a file was lost, a byte was wrong, a message was untrue, a log has a bug, or a
daemon ended by itself.
"""

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from parts.chaos import UP_LIMIT_S, Chaos
from parts.figures import heading, table
from parts.machines import Park, clock_library, enter_own_mounts
from parts.stage import Stage
from parts.users import Looker, Users, calm

EPOCH_S = 30.0


async def hard_use(stage: Stage, chaos: Chaos, minutes: float) -> None:
    """Start all, trouble them for so long, and see what is left."""
    users, looker = Users(stage), Looker(stage)
    homes = [stage.park.folder / name for name in ("publisher", "fetcher", "looker")]
    begun = [(machine, machine.start()) for machine in stage.park.machines]
    for machine, at in begun:
        await machine.daemon.wait_up(at, UP_LIMIT_S)
    await trio.sleep(5)
    async with trio.open_nursery() as nursery:
        for work, home in zip((users.publisher, users.fetcher, looker.run), homes, strict=True):
            nursery.start_soon(work, home)
        nursery.start_soon(stage.warden)
        nursery.start_soon(chaos.run)
        await trio.sleep(60 * minutes)
        stage.over.set()
    stage.ledger.say("the faults are over")
    await calm(users, looker, homes[0])
    stage.park.note_ended()


def report(stage: Stage, chaos: Chaos, bugs: list[str]) -> int:
    """The table; 1 where its last five numbers are not all 0."""
    ledger, park = stage.ledger, stage.park
    bad = {
        "files lost": ledger.lost,
        "wrong bytes": ledger.wrong,
        "messages that were untrue": ledger.untrue,
        "lines of tracebacks and bugs": bugs,
        "daemons that ended by themselves": park.ended,
    }
    rows: list[tuple[str, int]] = sorted(ledger.counts.items())
    rows.append(("faults put off, since a file could not bear them", chaos.put_off))
    rows.append(("refused, with a reason", ledger.refusals.total()))
    rows += [(name, len(texts)) for name, texts in bad.items()]
    print(*table(("what", "how many"), rows), sep="\n")
    for name in {"full", "clock"} - set(chaos.acts):
        print(f"left out, since this machine cannot do it: {name}")
    for text, count in ledger.refusals.most_common():
        print(f"refused {count} times: {text}")
    for name, texts in bad.items():
        print(*(f"{name}: {text}" for text in texts), sep="\n", end="\n" if texts else "")
    return int(any(bad.values()))


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--nodes", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epoch", type=float, default=EPOCH_S, metavar="S", help="rhythm of the volunteers' care")
    options = parser.parse_args()
    may_mount = enter_own_mounts()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no daemon is left asleep
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(heading(), flush=True)
    with tempfile.TemporaryDirectory(prefix="shoal-hard-use-", ignore_cleanup_errors=True) as folder:
        park = Park(Path(folder), options.nodes, options.epoch, may_mount=may_mount, library=clock_library())
        try:
            stage = Stage(park, options.seed, options.epoch)
            chaos = Chaos(stage)
            trio.run(hard_use, stage, chaos, options.minutes)
            bugs = list(park.complaints())
        finally:
            park.end()
        return report(stage, chaos, bugs)


if __name__ == "__main__":
    sys.exit(main())
