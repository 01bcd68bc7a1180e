"""openapi.yaml says what the code does: the same calls, and answers to generated requests as it promises."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import trio
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from shoal.doors.web import Door, open_door
from shoal.doors.web import api as api_module
from shoal.node import Network, open_node

SPECIFICATION = Path(api_module.__file__).parent / "openapi.yaml"
EXAMPLES = 2  # of each call: good ones and bad ones
TIMEOUT_S = 20.0
ENDLESS = "/events"
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A real door, in a thread: its node knows nobody."""
    home = tmp_path_factory.mktemp("home")
    opened: list[Door] = []
    is_open = threading.Event()
    scope = trio.CancelScope()
    token: list[trio.lowlevel.TrioToken] = []

    async def serve() -> None:
        token.append(trio.lowlevel.current_trio_token())
        with scope:
            async with open_node(home) as node, open_door(node, Network.load(), 0) as door:
                opened.append(door)
                is_open.set()
                await trio.sleep_forever()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert is_open.wait(TIMEOUT_S)
    yield opened[0]
    token[0].run_sync_soon(scope.cancel)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()


def specification() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SPECIFICATION.read_text("utf-8"))
    return found


def test_it_has_every_call_and_no_other(door: Door) -> None:
    documented = {
        (method.upper(), "/".join("*" if part.startswith("{") else part for part in path.strip("/").split("/")))
        for path, calls in specification()["paths"].items()
        for method in calls
        if method != "parameters"
    }
    assert documented == door.api.paths()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_generated_requests_are_answered_as_it_says(door: Door, mode: GenerationMode) -> None:
    """Good ones and bad ones. Each answer has a status, a type and a body that the call promises."""
    base = f"http://127.0.0.1:{door.ports.control}/api/v1"
    headers = {"Authorization": f"Bearer {door.token}"}
    asked = 0
    for result in schemathesis.openapi.from_dict(specification()).get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path == ENDLESS:
            continue

        @settings(max_examples=EXAMPLES, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            case.call_and_validate(base_url=base, headers=headers, timeout=TIMEOUT_S, checks=CHECKS)

        with suppress(Unsatisfiable):  # nothing about this call can be wrong
            ask()
        asked += 1
    assert asked == len(door.api.paths()) - 1
