"""What a study found: plain values, the same for the same plan but for the part that depends on the machine."""

import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field

from shoal.simulation.plan import YEAR_DAYS, StudyPlan
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """The network at one time: machines up, and the distinct good shares of files that are up, least and mean."""

    day: float
    up: int
    least: int
    mean: float


@dataclass
class Report:
    """Counted over the whole study.

    lost_files: published ones that nobody could read at the end, with the network healed and every machine that
    lives up.  wrong_bytes: read, and different from what was published.  repair_bytes: share bytes fetched and sent by
    repairs.  messages: datagrams and stream messages.  liars: machines that lied, of all there were.
    natted: machines behind home routers, of all there were.  connections: made between all.  punched: those that met
    through two routers.  relayed, relayed_bytes: those that a relay passed on, and what it passed on.
    reads_waited: tried while fewer than k shares were up.  first_machines: of the beginning, as far as they were ever
    up.  first_deaths: those of them that died for good.  least_absences: the fewest of any of the others; 0 when none
    is left. What came later counts there for nothing: it had no time to go away.
    least_shares and healed_shares: the fewest good ones of any file that were up, at a daily look, and at the end.
    healing_days: waited after the end for the last repairs.  all_repaired: whether nothing was left to repair then.
    violations: of what must always hold, each a sentence.
    """

    plan: StudyPlan
    published: int = 0
    refused_publishes: int = 0
    k: int = 0
    n: int = 0
    lost_files: int = 0
    wrong_bytes: int = 0
    reads: int = 0
    reads_waited: int = 0
    renewals: int = 0
    repairs: int = 0
    rebuilt_shares: int = 0
    repair_bytes: int = 0
    surveys: int = 0
    audits_passed: int = 0
    audits_failed: int = 0
    audit_bytes: int = 0
    datagrams: int = 0
    datagram_bytes: int = 0
    stream_messages: int = 0
    stream_bytes: int = 0
    natted: int = 0
    connections: int = 0
    punched: int = 0
    relayed: int = 0
    relayed_bytes: int = 0
    deaths: int = 0
    first_machines: int = 0
    first_deaths: int = 0
    absences: int = 0
    least_absences: int = 0
    power_cuts: int = 0
    partitions: int = 0
    flipped_bits: int = 0
    full_disks: int = 0
    liars: int = 0
    up_node_days: float = 0.0
    least_shares: int = 0
    healed_shares: int = 0
    healing_days: float = 0.0
    all_repaired: bool = True
    violation_count: int = 0
    violations: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether files were published, nothing was lost, nothing wrong, and everything held that must."""
        return not (self.showed_nothing or self.lost_files or self.wrong_bytes or self.violation_count)

    @property
    def showed_nothing(self) -> bool:
        """Whether there were to be files, and none came to be published."""
        return self.plan.files > 0 and not self.published

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if self.good:
            return "Nothing was lost and nothing went wrong."
        if self.lost_files or self.wrong_bytes or self.violation_count:
            return "Something was lost or went wrong."
        return f"None of the {self.plan.files} files was published, so the study shows nothing."

    @property
    def node_years(self) -> float:
        """Simulated, of machines up or away, with the days after the end."""
        return self.plan.nodes * (self.plan.days + self.healing_days) / YEAR_DAYS

    def fields(self) -> dict[str, object]:
        """For scripts: everything, what depends on the machine apart."""
        plan = self.plan
        return {
            "seed": plan.seed,
            "nodes": plan.nodes,
            "days": plan.days,
            "files": plan.files,
            "size": plan.size_bytes,
            "mean_life_days": plan.mean_life_days,
            "uptime": plan.uptime,
            "nat": plan.nat,
            "published": self.published,
            "refused_publishes": self.refused_publishes,
            "k": self.k,
            "n": self.n,
            "good": self.good,
            "lost_files": self.lost_files,
            "wrong_bytes": self.wrong_bytes,
            "reads": self.reads,
            "reads_waited": self.reads_waited,
            "renewals": self.renewals,
            "repairs": self.repairs,
            "rebuilt_shares": self.rebuilt_shares,
            "repair_bytes": self.repair_bytes,
            "surveys": self.surveys,
            "audits_passed": self.audits_passed,
            "audits_failed": self.audits_failed,
            "audit_bytes": self.audit_bytes,
            "messages": self.datagrams + self.stream_messages,
            "datagrams": self.datagrams,
            "datagram_bytes": self.datagram_bytes,
            "stream_messages": self.stream_messages,
            "stream_bytes": self.stream_bytes,
            "natted": self.natted,
            "connections": self.connections,
            "punched": self.punched,
            "relayed": self.relayed,
            "relayed_bytes": self.relayed_bytes,
            "deaths": self.deaths,
            "first_machines": self.first_machines,
            "first_deaths": self.first_deaths,
            "absences": self.absences,
            "least_absences": self.least_absences,
            "power_cuts": self.power_cuts,
            "partitions": self.partitions,
            "flipped_bits": self.flipped_bits,
            "full_disks": self.full_disks,
            "liars": self.liars,
            "up_node_days": round(self.up_node_days, 3),
            "least_shares": self.least_shares,
            "healed_shares": self.healed_shares,
            "healing_days": round(self.healing_days, 3),
            "violations": self.violation_count,
            "violation_texts": list(self.violations),
            "replay": replay_command(plan),
            "machine": self.machine(),
        }

    def machine(self) -> dict[str, object]:
        """What another run of the same plan may have otherwise."""
        hours = self.cpu_s / 3600
        return {
            "cpu_seconds": round(self.cpu_s, 3),
            "node_years_per_cpu_hour": round(self.node_years / hours, 2) if hours else None,
            "cpu_ms_per_node_day": round(1000 * self.cpu_s / (self.node_years * YEAR_DAYS), 2),
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
            "processor": platform.machine(),
        }

    def rows(self) -> Sequence[tuple[str, str]]:
        """For people: what, and how much."""
        per_node_day = self.up_node_days or 1.0
        share_days = self.published * self.plan.days or 1.0
        return [
            ("days", f"{self.plan.days:g}"),
            ("machines", f"{self.plan.nodes} at any time; {self.deaths} died and were replaced"),
            ("initial machines", self._first_words()),
            ("behind home routers", self._router_words()),
            ("absences", f"{self.absences}, {self.power_cuts} of them power cuts"),
            (
                "calamities",
                f"network splits: {self.partitions}, flipped bits: {self.flipped_bits}, full disks: {self.full_disks}",
            ),
            ("liars", f"{self.liars} of all machines; their shares do not count" if self.liars else ""),
            ("files", self._file_words()),
            ("wrong bytes read", str(self.wrong_bytes)),
            (
                "reads during the run",
                f"{self.reads}, {self.reads_waited} of them while fewer than {self.k} shares were up",
            ),
            ("fewest good shares up", f"{self.least_shares} of {self.n} ({self.k} needed)"),
            ("repairs", f"{self.repairs}; {self.rebuilt_shares} shares rebuilt, {self.repair_bytes} bytes moved"),
            ("audits", f"{self.audits_passed} passed, {self.audits_failed} failed"),
            ("datagrams", f"{self.datagrams / per_node_day:.0f} per node and day of uptime"),
            ("stream messages", f"{self.stream_messages / share_days:.0f} per file and day"),
            ("days after the end", self._healing_words()),
            ("fewest good shares then", f"{self.healed_shares} of {self.n}, with all machines up"),
            ("violations", str(self.violation_count)),
        ]

    def _healing_words(self) -> str:
        """How long was waited for the last repairs, and whether they were done by then."""
        end = "then nothing was left to repair" if self.all_repaired else "then the study gave up on the last repairs"
        return f"{self.healing_days:.2f}; {end}"

    def _router_words(self) -> str:
        """How many machines nobody could call, and how they were reached."""
        if not self.natted:
            return ""
        return (
            f"{self.natted} of all machines; of {self.connections} connections {self.punched} were punched and "
            f"{self.relayed} relayed, with {self.relayed_bytes} bytes through relays"
        )

    def _file_words(self) -> str:
        refused = f"; {self.refused_publishes} refused" if self.refused_publishes else ""
        if not self.published:
            return f"none published{refused}"
        return f"{self.published} published as {self.k} of {self.n}; {self.lost_files} lost{refused}"

    def _first_words(self) -> str:
        """What became of the initial machines."""
        if not self.first_machines:
            return ""
        share = f"{self.first_deaths} of {self.first_machines} died for good"
        share += f" ({100 * self.first_deaths / self.first_machines:.0f} %)"
        if self.first_deaths == self.first_machines:
            return share
        return f"{share}; each of the others was away at least {self.least_absences} times"


def _exact(number: float) -> str:
    """The shortest text that gives the same number again."""
    return str(int(number)) if number == int(number) else repr(number)


def replay_command(plan: StudyPlan) -> str:
    """The command line that does the same study again."""
    words: Mapping[str, object] = {
        "--nodes": plan.nodes,
        "--days": _exact(plan.days),
        "--files": plan.files,
        "--size": plan.size_bytes,
        "--mean-life": f"{_exact(plan.mean_life_days)}d",
        "--uptime": _exact(plan.uptime),
        "--absences": _exact(plan.absences),
        **({"--nat": _exact(plan.nat)} if plan.nat else {}),
        **({"--k": plan.k, "--n": plan.n} if plan.k is not None else {}),
        "--seed": plan.seed,
    }
    return shlex.join(["shoal", "simulate", *(str(word) for pair in words.items() for word in pair)])
