"""Processes of a benchmark: started and ended here, each by its own id, and what they cost (Linux: from /proc)."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
STOP_LIMIT_S = 20.0  # an orderly end takes a second; a process that needs longer is killed
GLANCE_S = 0.02  # between looks at the peak of a command: it can be read only while the process lives
RESET_PEAK = "5"  # for /proc/PID/clear_refs: VmHWM starts again from what is resident now
OPERATION_LIMIT_S = 600.0  # a publish or fetch that takes longer has failed


class MeasureError(Exception):
    """A measurement that could not be made; `str()` says why, to people."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What one operation cost: seconds, CPU-seconds of all processes, peak MiB of the process that did it."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def cpu_ticks(stat: str) -> int:
    """User and system time in clock ticks, from the text of /proc/PID/stat. The name may contain anything."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def status_mib(status: str, field: str) -> float:
    """A memory field of /proc/PID/status, such as VmRSS or VmHWM; 0 when it is not there (the process has ended)."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    return 0.0


def cpu_s(pids: Iterable[int]) -> float:
    """CPU-seconds of live processes so far, all their threads; one that has ended counts nothing."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            total += cpu_ticks(Path(f"/proc/{pid}/stat").read_text())
    return total / TICKS_PER_S


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """What a process has in memory, or had at most (VmHWM); 0 when it has ended."""
    try:
        return status_mib(Path(f"/proc/{pid}/status").read_text(), field)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def reset_peak(pid: int) -> None:
    """Make VmHWM count from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text(RESET_PEAK)


def wait_gone(pids: Iterable[int], limit_s: float = STOP_LIMIT_S) -> None:
    """Wait until processes that somebody else reaps have ended."""
    deadline = time.monotonic() + limit_s
    left = [pid for pid in pids if memory_mib(pid)]
    while left and time.monotonic() < deadline:
        time.sleep(GLANCE_S)
        left = [pid for pid in left if memory_mib(pid)]
    if left:
        raise MeasureError(f"processes {left} do not end")


@contextmanager
def started(
    argv: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, talks: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """A process for the length of the block, with its errors in `log`; `talks`: its output is a pipe to us.

    Its standard input is a pipe that ends with us, however we end. It is in a session of its own, because a Ctrl-C
    in the terminal is for us alone: we end what we started, in order.
    """
    with open(log, "ab") as errors:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if talks else errors,
            stderr=errors,
            env=environment,
            start_new_session=True,
            text=True,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """Ask it to end, wait, kill it if that did not help, and close its pipes."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was left in it has no reader any more
                pipe.close()


def read_line(process: "subprocess.Popen[str]", limit_s: float) -> str:
    """The next line that a process says. One line at a time is asked for, so nothing hides in a buffer."""
    assert process.stdout is not None, "started with talks=True"
    if not select.select([process.stdout], [], [], limit_s)[0]:
        raise MeasureError(f"no answer within {limit_s:.0f} s")
    line = process.stdout.readline()
    if not line:
        raise MeasureError("the process ended instead of answering")
    return line


def run_command(argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> tuple[Spent, str]:
    """Run a command to its end; its own cost and what it printed. MeasureError when it fails.

    The peak is VmHWM, looked at while it runs: the kernel's own figure for a child that ended (ru_maxrss) counts the
    memory of whoever started it too.
    """
    with open(log, "ab") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        )
    try:
        peak_mib = _watch(process.pid, begun + OPERATION_LIMIT_S)
        wall_s = time.perf_counter() - begun
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    except BaseException:
        process.kill()
        process.wait()
        raise
    assert process.stdout is not None
    with process.stdout as pipe:
        output = pipe.read()
    if process.returncode:
        raise MeasureError(f"{Path(argv[0]).name} failed with code {process.returncode}")
    return Spent(wall_s, usage.ru_utime + usage.ru_stime, peak_mib), output


def _watch(pid: int, deadline: float) -> float:
    """The peak memory of a child, MiB, once it has ended; it is left to be reaped."""
    peak_mib, handle = 0.0, os.pidfd_open(pid)
    try:
        while not select.select([handle], [], [], GLANCE_S)[0]:
            peak_mib = max(peak_mib, memory_mib(pid, "VmHWM"))
            if time.perf_counter() > deadline:
                raise MeasureError(f"not done after {OPERATION_LIMIT_S:.0f} s")
    finally:
        os.close(handle)
    return peak_mib


def interrupted_once() -> None:
    """Let the first Ctrl-C or SIGTERM raise KeyboardInterrupt; later ones must not disturb the tidying up."""

    def handle(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, handle)


def tree_bytes(folder: Path) -> int:
    """Bytes of the files below a folder. A database's journal (-wal, -shm) is left out: it is emptied now and then."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(("-wal", "-shm")):
                with suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(where, name)).st_size
    return total
