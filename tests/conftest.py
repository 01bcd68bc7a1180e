"""What holds for all tests."""

import socket

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("kit")
settings.register_profile("shoal", derandomize=True, deadline=None)  # the same examples in every run, quick or not
settings.load_profile("shoal")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Some machines and containers have no IPv6 at all."""
    if item.get_closest_marker("needs_ipv6") and not has_ipv6():
        pytest.skip("no IPv6 loopback here")


def has_ipv6() -> bool:
    """Whether one can listen on ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
