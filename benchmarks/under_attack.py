"""One hostile machine against eight daemons, attack by attack: what it costs, and what honest users notice.

An honest user publishes and fetches all the time, each time as a newcomer with an empty home: before, during and after
each attack. The private network is on loopback, the attacker is one address of it. The public one is in network
namespaces that this script makes, as root or in a user namespace; the attacker there is one IPv4 address and one /48.

    .venv/bin/python benchmarks/under_attack.py                                   # all attacks on both networks
    .venv/bin/python benchmarks/under_attack.py --only 'surveys,hellos' --during 30 --rest 20

It ends with 1 where the bar is missed: honest publishes and fetches at 99 % within 3 times their time, no daemon ended,
none larger by 30 MiB.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from parts.figures import heading, short, table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.attacks import ATTACKS
from hostile.honest import FETCH, PUBLISH
from hostile.rig import Outcome, Times
from hostile.stage import NETWORKS, NotAllowedError, Stage, open_stage

EPOCH_S = 60.0
SUCCESS = 0.99
SLOWER = 3.0  # times the median before
GROWTH_MIB = 30.0

HEAD = (
    *("attack", "sent MB", "got MB", "its CPU-s", "their CPU-s"),
    *("publish ok", "x during", "x after", "fetch ok", "x during", "x after"),
    *("RSS MiB", "ended", "missed"),
)


def parts_of(outcome: Outcome) -> list[dict[str, Any]]:
    """Before, during, after."""
    return [outcome.before, outcome.during, outcome.after]


def success(outcome: Outcome, operation: str) -> str:
    """How many succeeded before / during / after."""
    counts = [part[operation] for part in parts_of(outcome)]
    return " ".join(f"{each['succeeded']}/{each['tried']}" for each in counts)


def slower(outcome: Outcome, operation: str) -> list[float | None]:
    """The median time during and after the attack, in medians before it; None where nothing succeeded."""
    before, *others = [part[operation]["median_s"] for part in parts_of(outcome)]
    return [None if before is None or each is None else each / before for each in others]


def worst_memory(outcome: Outcome) -> str:
    """MiB before, at most and after, of the daemon that grew most."""
    rows = list(zip(outcome.memory_before, outcome.memory_most, outcome.memory_after, strict=True))
    worst = max(rows, key=lambda row: row[1] - row[0])
    return " ".join(f"{each:.0f}" for each in worst)


def missed(outcome: Outcome) -> list[str]:
    """What an attack achieved beyond the bar."""
    found = []
    for operation in (PUBLISH, FETCH):
        for when, part in (("during", outcome.during), ("after", outcome.after)):
            counts: Any = part[operation]
            if counts["succeeded"] < SUCCESS * counts["tried"]:
                found.append(f"{operation} {when}")
        if any(each is None or each > SLOWER for each in slower(outcome, operation)):
            found.append(f"{operation} slow")
    grown = max(most - before for before, most in zip(outcome.memory_before, outcome.memory_most, strict=True))
    if grown > GROWTH_MIB:
        found.append("memory")
    if outcome.ended:
        found.append("ended")
    return found


def row(outcome: Outcome) -> list[str | float]:
    """One line of the table."""
    cells: list[str | float] = [
        outcome.attack,
        outcome.sent / 1e6,
        outcome.received / 1e6,
        outcome.cpu_s,
        outcome.daemons_cpu_s,
    ]
    for operation in (PUBLISH, FETCH):
        ratios = [float("inf") if each is None else each for each in slower(outcome, operation)]
        cells += [success(outcome, operation), *(f"{each:.1f}" for each in ratios)]
    return [*cells, worst_memory(outcome), len(outcome.ended), ", ".join(missed(outcome)) or "-"]


def measured(network: str, attacks: list[str], times: Times, epoch_s: float) -> Iterator[Outcome]:
    """Attack after attack on one network; on a new one after an attack that ended a daemon."""
    with tempfile.TemporaryDirectory(prefix="shoal-attack-") as folder, ExitStack() as stack:
        stage: Stage | None = None
        for number, attack in enumerate(attacks):
            if stage is None:
                stage = stack.enter_context(open_stage(network, Path(folder) / str(number), epoch_s=epoch_s))
            outcome = stage.run(attack, times)
            yield outcome
            if outcome.ended or outcome.attacker_failure:
                stack.close()
                stage = None


def shown(outcomes: list[Outcome], *, markdown: bool) -> list[str]:
    """The table, and below it what attacks noted and what failed."""
    rows = [row(each) for each in outcomes]
    if markdown:
        lines = [" | ".join(("", *HEAD, "")).strip(), "|" + " --- |" * len(HEAD)]
        lines += [" | ".join(("", *map(short, cells), "")).strip() for cells in rows]
    else:
        lines = table(HEAD, rows)
    for each in outcomes:
        notes = ", ".join(f"{name} {short(value)}" for name, value in each.notes.items())
        lines += [f"{each.attack}: {notes}"] if notes else []
        for when, part in zip(("before", "during", "after"), parts_of(each), strict=True):
            lines += [f"{each.attack}, {when}: {failure}" for failure in part["failures"][:3]]
            if part["remarks"]:
                lines.append(f"{each.attack}, {when}: {len(part['remarks'])} publishes on {part['remarks'][0]}")
        lines += [f"{each.attack}: {line}" for line in each.complaints.splitlines()[:3]]
        lines += [f"{each.attack}: the attacker failed: {each.attacker_failure}"] if each.attacker_failure else []
    return lines


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ATTACKS), help="attacks, with commas between them")
    parser.add_argument("--network", choices=(*NETWORKS, "both"), default="both")
    parser.add_argument("--before", type=float, default=30.0, metavar="S")
    parser.add_argument("--during", type=float, default=120.0, metavar="S")
    parser.add_argument("--rest", type=float, default=60.0, metavar="S")
    parser.add_argument("--after", type=float, default=30.0, metavar="S")
    parser.add_argument("--epoch", type=float, default=EPOCH_S, metavar="S", help="rhythm of the volunteers' care")
    parser.add_argument("--markdown", action="store_true", help="tables for a page")
    parser.add_argument("--json", type=Path, help="write all figures to this file, after each attack")
    options = parser.parse_args()
    attacks = options.only.split(",")
    if unknown := set(attacks) - set(ATTACKS):
        parser.error(f"no such attack: {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    print(heading())
    times = Times(options.before, options.during, options.rest, options.after)
    found: list[Outcome] = []
    for network in NETWORKS if options.network == "both" else (options.network,):
        here: list[Outcome] = []
        try:
            for outcome in measured(network, attacks, times, options.epoch):
                here.append(outcome)
                if options.json:
                    options.json.write_text(json.dumps([vars(each) for each in [*found, *here]]))
                print(f"{network}, {outcome.attack}: {', '.join(missed(outcome)) or 'held'}", file=sys.stderr)
        except NotAllowedError as error:
            print(f"The {network} network is left out. {error}")
        found += here
        print(f"\nThe {network} network: {times.before_s:g} s before, {times.during_s:g} s of attack, ", end="")
        print(f"{times.rest_s:g} s of rest, {times.after_s:g} s after\n")
        print(*shown(here, markdown=options.markdown), sep="\n")
    return 1 if any(missed(each) for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
