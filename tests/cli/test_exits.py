"""Every error of the family has one exit code, whatever it is wrapped in."""

import pytest
import trio

from shoal.cli.exits import (
    MEANINGS,
    BadUsageError,
    Code,
    CommandError,
    OutputClosedError,
    explain,
    family,
    leaves,
)
from shoal.node import errors


def test_the_contract() -> None:
    assert [int(code) for code in Code] == [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 130]
    assert set(MEANINGS) == set(Code)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError("x"), 2),
        (errors.LocalError("x"), 1),
        (errors.AlreadyRunning("x"), 11),
        (errors.NoPeers("x"), 13),
        (errors.NotFound("x"), 10),
        (errors.TooFewShares("x", needed=3, found=2), 10),
        (errors.WrongKey("x"), 12),
        (errors.BadData("x"), 14),
        (errors.NeedsNewerShoal("x"), 14),
        (errors.Refused("x"), 15),
        (errors.ShoalError("x"), 1),
        (CommandError("x", Code.PARTIAL), 3),
        (BadUsageError("x"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_codes(error: BaseException, code: int) -> None:
    assert explain(error).code == code
    assert explain(BaseExceptionGroup("two deep", [BaseExceptionGroup("", [error])])).code == code
    assert not explain(error).bug


def test_every_error_of_the_family_is_in_the_table() -> None:
    special = {kind for kind, _ in family()} - {errors.ShoalError}
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, errors.ShoalError) and value is not errors.ShoalError:
            assert special.intersection(value.__mro__), value


def test_no_error_of_the_table_hides_one_that_comes_later() -> None:
    kinds = [kind for kind, _ in family()]
    for at, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[at + 1 :]), kind


def test_the_message_is_the_errors_own() -> None:
    assert explain(errors.NotFound("Nobody has it.")).message == "Nobody has it."


def test_what_nobody_foresaw_is_called_a_bug_without_a_traceback() -> None:
    outcome = explain(ExceptionGroup("", [ZeroDivisionError("division by zero\nmore")]))
    assert outcome.bug
    assert outcome.code == 1
    assert outcome.message.startswith("This is a bug in Shoal: ZeroDivisionError: division by zero. ")


def test_an_interruption_wins_and_a_bug_beats_what_was_foreseen() -> None:
    bug, known = ValueError("x"), errors.NoPeers("y")
    assert explain(BaseExceptionGroup("", [bug, known, KeyboardInterrupt()])).code == 130
    assert explain(ExceptionGroup("", [known, bug])).bug


def test_an_interruption_inside_the_scheduler() -> None:
    error = trio.TrioInternalError("at a bad moment")
    error.__cause__ = KeyboardInterrupt()
    assert explain(error).code == 130
    assert explain(trio.TrioInternalError("a real one")).bug


def test_system_errors_have_words() -> None:
    outcome = explain(FileNotFoundError(2, "No such file or directory", "/x/y"))
    assert (outcome.code, outcome.message, outcome.bug) == (1, "/x/y: No such file or directory.", False)
    assert explain(OSError(28, "No space left on device")).message == "No space left on device."


def test_a_closed_output_ends_without_a_word() -> None:
    assert (explain(OutputClosedError()).code, explain(OutputClosedError()).message) == (1, "")


def test_leaves() -> None:
    one, two = ValueError(), KeyError()
    assert list(leaves(ExceptionGroup("", [one, ExceptionGroup("", [two])]))) == [one, two]
