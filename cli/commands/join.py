"""`shoal join`: have this home be on the network of an invite."""

import sys
from typing import Annotated

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code
from shoal.cli.output import visible

MAX_INPUT_BYTES = 8193  # one more than an invite may have


def join(
    context: typer.Context,
    invite: Annotated[
        str, typer.Argument(metavar="INVITE", help="What shoal invite printed; - reads it from standard input.")
    ],
) -> Job:
    """Join the network of an invite. Commands with this home are on that network from then on.

    A home is on one network. Joining the same one again brings new peers; use --home for another one.

    Exit code: 0 also when no peer answers yet.
    """
    settings = globals_of(context)
    if settings.network is not None:
        raise BadUsageError("The invite names the network: leave --network (and $SHOAL_NETWORK) out.")
    text = _from_input() if invite == "-" else invite
    return settings.job(lambda: _join(settings, text))


def _from_input() -> str:
    if sys.stdin is None:
        raise BadUsageError("Standard input is closed: there is no invite in it.")
    return sys.stdin.buffer.read(MAX_INPUT_BYTES).decode("utf-8", "replace")


async def _join(settings: Globals, text: str) -> int:
    from shoal.node import NoPeers, join_network, parse_invite

    home = settings.locate_home()
    network = join_network(home, parse_invite(text))
    output = settings.output
    name = visible(network.parameters.name)
    answers = True
    async with settings.open_client() as node:
        try:
            await node.wait_joined()
        except NoPeers as error:
            answers = False
            output.warn(f"{error} The home stays on the network, and its commands try again.")
    rules = "private" if network.parameters.private else "public"
    output.note(f"This home is on the {rules} network {name!r} now: {visible(str(home.network_file))}")
    output.summary(
        network=network.parameters.name,
        private=network.parameters.private,
        network_file=str(home.network_file),
        peers=len(network.peers),
        answers=answers,
    )
    return Code.OK
