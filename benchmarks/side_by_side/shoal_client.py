"""A program that embeds Shoal: one long-lived client node, told by JSON lines on standard input what to do.

    python -P shoal_client.py HOME NETWORK_FILE

Requests: {"publish": PATH, "code": {"needed": K, "total": N} or {}}, {"publish_all": [PATH, ...],
"at_once": N, "code": ...}, {"fetch": LINK, "target": PATH}. Each is answered
by one line with the seconds it took, or {"error": ...}. The first line says that the node has joined.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import trio

from shoal.node import Node, ShoalError, open_node


async def publish_all(node: Node, paths: list[str], at_once: int, code: dict[str, Any]) -> None:
    """Publish files, so many at a time. RuntimeError where one is not complete."""
    left = iter(paths)

    async def work() -> None:
        for path in left:
            published = await node.publish(path, **code)
            if not published.complete:
                raise RuntimeError(f"{path} was not published completely")

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)


async def obey(node: Node, request: dict[str, Any]) -> dict[str, Any]:
    """Do one thing and say what came out."""
    begun = time.perf_counter()
    if "publish_all" in request:
        await publish_all(node, request["publish_all"], request["at_once"], request["code"])
        answer: dict[str, Any] = {}
    elif "publish" in request:
        published = await node.publish(request["publish"], **request["code"])
        holders = {number: str(address) for number, address in published.holders.items()}
        answer = {"link": str(published.link), "k": published.k, "n": published.n, "holders": holders}
    else:
        await node.fetch(request["fetch"], request["target"])
        answer = {}
    return answer | {"seconds": time.perf_counter() - begun}


async def main(home: str, network_file: str) -> None:
    """Answer requests until standard input ends."""
    async with open_node(home, network=Path(network_file)) as node:
        await node.wait_joined()
        print(json.dumps({"joined": True}), flush=True)
        async for line in trio.wrap_file(sys.stdin):
            try:
                answer = await obey(node, json.loads(line))
            except ShoalError as error:
                answer = {"error": str(error)}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2])
