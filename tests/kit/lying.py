"""Running nodes that count what they are asked, or answer it falsely: through their table of handlers."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from kit.worlds import caretaker_of
from shoal.erasure import FileId
from shoal.node.care.polls import Kept, Shares
from shoal.node.channel import AnyRequest, Buffer, Caller, Reply, Survey
from shoal.node.volunteer.handlers import Handler, Handlers
from shoal.simulation.world import Machine


def handlers(machine: Machine) -> Handlers:
    """How a running machine answers each type of request; entries may be replaced."""
    return machine.serving.handlers


def on_request(
    machines: Iterable[Machine], kind: type[AnyRequest], note: Callable[[Machine, AnyRequest], None]
) -> None:
    """Have `note` called for each request of one type that comes to these machines from now on."""
    for machine in machines:
        handlers(machine)[kind] = _noted(machine, handlers(machine)[kind], note)


def _noted(machine: Machine, honest: Handler, note: Callable[[Machine, AnyRequest], None]) -> Handler:
    async def answer(caller: Caller, request: AnyRequest, payload: Buffer) -> Reply:
        note(machine, request)
        return await honest(caller, request, payload)

    return answer


def count_surveys(machines: Collection[Machine], *, polls: bool = False) -> Counter[str]:
    """How often each machine is surveyed by the channel from now on, by name; with `polls` by datagram as well."""
    counts: Counter[str] = Counter()
    on_request(machines, Survey, lambda machine, request: counts.update([machine.name]))
    for machine in machines if polls else ():
        caretaker_of(machine).polls.kept = _counted(counts, machine.name, caretaker_of(machine).polls.kept)
    return counts


def _counted(counts: Counter[str], name: str, honest: Kept) -> Kept:
    async def kept(file_ids: Sequence[FileId]) -> Sequence[Shares]:
        counts[name] += 1
        return await honest(file_ids)

    return kept


def poll_says(machine: Machine, shares: Collection[int]) -> None:
    """Have a machine answer every poll that it keeps these shares of every file."""

    async def kept(file_ids: Sequence[FileId]) -> list[Shares]:
        return [shares for _ in file_ids]

    caretaker_of(machine).polls.kept = kept
