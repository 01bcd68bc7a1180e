"""The progress line fits, is not drawn too often, and takes itself away."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.cli.progress import ProgressDisplay, RateMeter, describe, open_progress
from shoal.node.results import Phase, Progress

MOMENT = Progress(Phase.SENDING, 28_800_000, 64_000_000, shares=11, wanted_shares=12, hosts=11)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_everything_fits_on_a_wide_line() -> None:
    bar = "[#############-----------------]"
    numbers = "45 %  28.8 of 64.0 MB  20.0 MB/s  0:02 left  shares 11/12  hosts 11"
    assert describe(MOMENT, 20e6, 120) == f"Sending  {bar}  {numbers}"


def test_there_is_a_bar_on_a_terminal_of_usual_width() -> None:
    line = describe(MOMENT, 20e6, 77)
    assert line == "Sending  [###----]  45 %  28.8 of 64.0 MB  20.0 MB/s  0:02 left  shares 11/12"
    assert describe(MOMENT, 20e6, 70) == "Sending  [######--------]  45 %  28.8 of 64.0 MB  20.0 MB/s  0:02 left"
    assert describe(Progress(Phase.FETCHING, 900_000, 64_000_000), 0, 50).endswith("900 kB of 64.0 MB")


def test_the_less_important_goes_first() -> None:
    assert describe(MOMENT, 20e6, 55) == "Sending  45 %  28.8 of 64.0 MB  20.0 MB/s  0:02 left"
    assert describe(MOMENT, 20e6, 30) == "Sending  45 %  20.0 MB/s"
    assert describe(MOMENT, 20e6, 15) == "Sending  45 %"
    assert describe(MOMENT, 20e6, 3) == "Sen"


@given(
    st.builds(
        Progress,
        st.sampled_from(Phase),
        st.integers(0, 2**62),
        st.none() | st.integers(0, 2**62),
        st.integers(0, 256),
        st.integers(0, 256),
        st.integers(0, 256),
    ),
    st.floats(0, 1e12),
    st.integers(0, 300),
)
def test_it_never_overflows_its_line(progress: Progress, rate: float, columns: int) -> None:
    assert len(describe(progress, rate, columns)) <= columns


def test_the_rate_is_that_of_the_last_seconds_without_what_was_resumed() -> None:
    meter = RateMeter()
    meter.add(0.0, 1_000_000)
    assert meter.rate(0.0) == 0.0
    for second in range(1, 20):
        meter.add(float(second), 1_000_000 + second * 100)
    assert meter.rate(19.0) == pytest.approx(100, rel=0.3)
    meter.add(20.0, 5)  # another phase starts over
    assert meter.rate(20.0) == 0.0


def test_the_rate_of_a_phase_is_its_own(recorded: Callable[..., Any]) -> None:
    """What was there before a phase began is not its work, and what another phase did is not either."""
    output, clock = recorded(json=True), Clock()
    display = ProgressDisplay(output, clock=clock)
    display(Progress(Phase.CONNECTING, 0, 2_000_000_000))
    for second in range(3):
        clock.now += 1.0
        display(Progress(Phase.VERIFYING, (second + 1) * 300_000_000, 2_000_000_000))
    for second in range(5):
        clock.now += 1.0
        display(Progress(Phase.SENDING, 1_000_000_000 + second * 1_000_000, 2_000_000_000))
    rates = {message["phase"]: message["bytes_per_s"] for message in output.messages}
    assert rates["verifying"] == pytest.approx(300_000_000, rel=0.01)
    sending = [message["bytes_per_s"] for message in output.messages if message["phase"] == "sending"]
    assert sending[0] == 0
    assert all(rate == pytest.approx(1_000_000, rel=0.01) for rate in sending[1:])


def test_a_stall_shows_in_the_rate() -> None:
    meter = RateMeter()
    for tenth in range(50):
        meter.add(tenth / 10, tenth * 1000)
    busy = meter.rate(5.0)
    for second in range(5, 30):
        meter.add(float(second), 49_000)
    assert busy > 9000
    assert meter.rate(30.0) < 10


def test_redraws_are_bounded_and_the_line_goes_away(recorded: Callable[..., Any]) -> None:
    output, clock = recorded(terminal=True), Clock()
    display = ProgressDisplay(output, clock=clock)
    for step in range(1000):
        clock.now += 0.001
        display(Progress(Phase.FETCHING, step, 1000))
    assert output.err.getvalue().count("\r") <= 11
    display.clear()
    display.clear()
    assert output.err.getvalue().endswith("\r\x1b[K")
    assert output.out.getvalue() == ""


def test_json_events_are_sparse_and_tell_each_phase(recorded: Callable[..., Any]) -> None:
    output, clock = recorded(json=True), Clock()
    display = ProgressDisplay(output, clock=clock)
    for phase in (Phase.PLACING, Phase.SENDING):
        for step in range(1000):
            clock.now += 0.001
            display(Progress(phase, step, 1000, 3, 12, 3))
    phases = [message["phase"] for message in output.messages]
    assert set(phases) == {"placing", "sending"}
    assert len(phases) <= 4
    assert output.messages[0] == {
        "message_type": "status",
        "phase": "placing",
        "done_bytes": 0,
        "total_bytes": 1000,
        "bytes_per_s": 0,
        "shares": 3,
        "wanted_shares": 12,
        "hosts": 3,
    }


async def test_nothing_is_drawn_on_a_dumb_terminal_or_where_a_person_types(
    recorded: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed, dumb = recorded(terminal=True), recorded(terminal=True)
    async with open_progress(typed, drawn=False) as progress:
        progress(MOMENT)
    monkeypatch.setenv("TERM", "dumb")
    async with open_progress(dumb) as progress:
        progress(MOMENT)
    assert typed.err.getvalue() == dumb.err.getvalue() == ""
    assert dumb.interactive


def test_each_phase_is_a_line_for_those_who_want_to_know_more(recorded: Callable[..., Any]) -> None:
    output, clock = recorded(verbose=1), Clock()
    display = ProgressDisplay(output, clock=clock)
    for phase in (Phase.PLACING, Phase.SENDING, Phase.SENDING):
        clock.now += 1.5
        display(Progress(phase, 5, 1000))
    assert output.err.getvalue() == "  1.50 s  placing\n  3.00 s  sending\n"


@pytest.mark.parametrize("settings", [{}, {"quiet": True, "terminal": True}])
async def test_nothing_is_drawn_without_a_terminal_or_with_quiet(
    recorded: Callable[..., Any], settings: dict[str, bool]
) -> None:
    output = recorded(**settings)
    async with open_progress(output) as progress:
        progress(MOMENT)
    assert output.err.getvalue() == output.out.getvalue() == ""


async def test_a_note_in_between_stands_on_a_line_of_its_own(recorded: Callable[..., Any]) -> None:
    output = recorded(terminal=True)
    async with open_progress(output) as progress:
        progress(MOMENT)
        output.note("A holder was replaced.")
    assert "\r\x1b[KA holder was replaced.\n" in output.err.getvalue()
    output.note("done")
    assert output.err.getvalue().endswith("replaced.\ndone\n")
