"""What holds for all tests."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

pytest.register_assert_rewrite("kit")
settings.register_profile("shoal", derandomize=True, deadline=None)  # the same examples in every run, quick or not
settings.load_profile("shoal")

TESTS = Path(__file__).parent
DAEMONS = (  # tests of real daemons and their times: never two of them at once
    "benchmarks",
    "cli",
    "docs",
    "doors/web/browser",
    "hostile",
    "node/reach/test_mapped_home.py",
    "node/store/test_full_disk.py",
    "node/store/test_kill.py",
    "node/whole/crash",
    "node/whole/test_remote_daemons.py",
)


class ByModule(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """Where several processes run the tests (`make test`), those of a module stay together, and so do the slow ones
    that start daemons."""

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0]).relative_to(TESTS.name)
        return "daemons" if any(path.is_relative_to(each) for each in DAEMONS) else str(path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule:
    """Share the tests out so."""
    return ByModule(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Some machines and containers have no IPv6 at all, and some have no browser."""
    if item.get_closest_marker("needs_ipv6") and not has_ipv6():
        pytest.skip("no IPv6 loopback here")
    if item.get_closest_marker("needs_browser"):
        needs_browser()


def needs_browser() -> None:
    """Where changes are checked there has to be one."""
    from kit.browsing import (
        why_no_browser,
    )  # late: what is imported before `register_assert_rewrite` keeps its bare asserts

    if missing := why_no_browser():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)


def has_ipv6() -> bool:
    """Whether one can listen on ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
