"""Entry point of the `shoal` command: parse, run, end with the right exit code, and never show a traceback.

Whatever takes time to import is imported inside `run`, so that an interruption at any moment is ours to handle. What
comes before `main`, the start of Python, is not.
"""

import os
import sys

from shoal.cli.signals import catch_termination, ignore_termination

TYPE_CHECKING = False  # typing itself takes 8 ms to load, in which a Ctrl-C would not be ours yet
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from shoal.cli.output import Output


def main() -> "NoReturn":
    """Run the command line of this process and exit."""
    code = 130  # if an interruption comes while an earlier one is being told
    try:
        catch_termination()
        _fill_standard_descriptors()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        pass
    while True:
        try:
            _end(code)
        except KeyboardInterrupt:  # it comes too late: the outcome stands
            continue


def _end(code: int) -> "NoReturn":
    """End at once. Taking Python apart would take longer than it is worth, and a signal would kill it half-way."""
    ignore_termination()
    os._exit(code)


def run(arguments: "Sequence[str]") -> int:
    """Run one command to its exit code."""
    output: Output | None = None
    try:
        catch_termination()
        output = _early_output(arguments)
        from shoal.cli.app import parse

        job = parse(arguments)
        if isinstance(job, int):
            return _flush(job)
        output = job.output
        _set_up_logging(output)
        return _flush(job.work())
    except BaseException as error:  # noqa: BLE001 - the one place where every error of a command ends
        return _flush(_report(error, output or _early_output(arguments)))


def _early_output(arguments: "Sequence[str]") -> "Output":
    """How to talk before the command line is understood."""
    from shoal.cli.context import scan_output

    _prepare_streams()
    return scan_output(arguments, os.environ)


def _report(error: BaseException, output: "Output") -> int:
    from dataclasses import replace

    from shoal.cli.exits import Code, explain

    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Code.FAILED
    outcome = explain(error)
    if outcome.code is Code.INTERRUPTED:
        output.hold()
    if outcome.bug and output.verbose:
        _print_traceback(error)
    if outcome.code is Code.INTERRUPTED and output.interrupt_hint:
        outcome = replace(outcome, message=f"{outcome.message} {output.interrupt_hint}")
    output.error(outcome)
    return outcome.code


def _set_up_logging(output: "Output") -> None:
    """What the library logs is shown with -v; without, only what is serious."""
    import logging

    class LogLines(logging.Handler):
        """Shows records as lines beside the others, which wait for no reader."""

        def emit(self, record: logging.LogRecord) -> None:
            output.insist(self.format(record))

    level = {0: logging.ERROR, 1: logging.INFO}.get(output.verbose, logging.DEBUG)
    logging.basicConfig(level=level, handlers=[LogLines()], format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _print_traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error, file=sys.stderr)


def _fill_standard_descriptors() -> None:
    """Open a closed descriptor 0, 1 or 2 on /dev/null.

    Else the next file or socket that is opened would get that number, and what is printed would end up in it.
    Python's own streams for them stay None, so that writing a result there still fails as it should.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


def _prepare_streams() -> None:
    """A character that the terminal's encoding lacks is escaped instead of being an error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _flush(code: int) -> int:
    """Flush standard output while a failure can still be handled; at exit Python would complain itself."""
    from shoal.cli.output import abandon

    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except (OSError, ValueError):
        abandon(sys.stdout)
        return code or 1
    return code
