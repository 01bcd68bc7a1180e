"""What the options of `shoal` itself decide, and how a command finds them."""

import os
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shoal.cli.exits import BadUsageError
from shoal.cli.output import Output
from shoal.values import dataclass

if TYPE_CHECKING:
    import typer

    from shoal.node import Home, Network, Node, NodeSettings

TRUE_WORDS = frozenset({"1", "true", "t", "yes", "y", "on"})
FALSE_WORDS = frozenset({"0", "false", "f", "no", "n", "off", ""})

# A command in a message that works on a home or a network, in the library's words, which know neither.
_BARE_COMMAND = re.compile(
    r"(?<!\S)shoal (?=(?:node|ls|publish|fetch|cat|info|check|repair|renew|keep|unkeep|delete|republish|invite)\b)"
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a parsed command line asks for: `work` gives the exit code, `output` is how it talks."""

    output: Output
    work: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Globals:
    """The options of `shoal` itself, which every command knows.

    `home` and `network` are None where the default holds. `bootstrap` has addresses as typed, not yet checked.
    """

    home: Path | None
    network: Path | None
    bootstrap: tuple[str, ...]
    output: Output
    no_lan: bool = False

    @classmethod
    def of(cls, typed: Mapping[str, Any]) -> "Globals":
        """The options by their names, as the command line gives them. BadUsageError for an impossible path."""
        return cls._made(
            given_path(typed.get("home"), "--home"),
            given_path(typed.get("network"), "--network"),
            split_addresses(typed.get("bootstrap") or ()),
            Output(
                json=bool(typed.get("json")), quiet=bool(typed.get("quiet")), verbose=int(typed.get("verbose") or 0)
            ),
            bool(typed.get("no_lan")),
        )

    def with_later(self, typed: Mapping[str, Any]) -> "Globals":
        """These options, and those that were typed after the command. What can be given once is taken from there."""
        later = Globals.of(typed)
        return self._made(
            later.home or self.home,
            later.network or self.network,
            self.bootstrap + later.bootstrap,
            Output(
                json=self.output.json or later.output.json,
                quiet=self.output.quiet or later.output.quiet,
                verbose=self.output.verbose + later.output.verbose,
            ),
            self.no_lan or later.no_lan,
        )

    @classmethod
    def _made(
        cls, home: Path | None, network: Path | None, bootstrap: tuple[str, ...], output: Output, no_lan: bool
    ) -> "Globals":
        made = cls(home, network, bootstrap, output, no_lan)
        output.in_full = made.in_full
        return made

    def job(self, work: Callable[[], Awaitable[int]]) -> Job:
        """A job of asynchronous work; trio is loaded only when it starts."""

        def start() -> int:
            from shoal.cli.runner import run

            return run(work, self.output)

        return Job(self.output, start)

    def open_client(self) -> "AbstractAsyncContextManager[Node]":
        """A node that serves nobody, for the time of one command."""
        from shoal.node import NodeSettings, open_node, written_settings

        home = self.locate_home()
        where = ", ".join(dict.fromkeys(str(folder) for folder in (home.config, home.data, home.cache)))
        self.output.detail(f"home: {where}")
        joined = home.network_file if home.network_file.exists() else "the one that comes with Shoal"
        self.output.detail(f"network file: {self.network or joined}")
        self.output.detail(f"peers named: {', '.join(self.bootstrap) or 'none'}")
        if self.output.verbose:
            from shoal.erasure import best_codec

            self.output.detail(f"erasure code: {best_codec().name}")
        settings = self.with_lan(written_settings(home) or NodeSettings())
        return open_node(self.home, network=self.network, bootstrap=self.bootstrap, settings=settings)

    def with_lan(self, settings: "NodeSettings") -> "NodeSettings":
        """Settings of a home, with what was typed about the local network."""
        return replace(settings, lan=False) if self.no_lan else settings

    def command(self, *words: str, with_home: bool = True) -> str:
        """A command line for people to type, with the options that were typed here and not set in the environment."""
        options: list[str] = []
        if with_home and self.home is not None and self.home != given_path(os.environ.get("SHOAL_HOME"), "SHOAL_HOME"):
            options += ["--home", str(self.home)]
        network = given_path(os.environ.get("SHOAL_NETWORK"), "SHOAL_NETWORK")
        if self.network is not None and self.network != network:
            options += ["--network", str(self.network)]
        if self.no_lan and os.environ.get("SHOAL_NO_LAN", "").strip().lower() not in TRUE_WORDS:
            options.append("--no-lan")
        if self.bootstrap != split_addresses([os.environ.get("SHOAL_BOOTSTRAP", "")]):
            for address in self.bootstrap:
                options += ["--bootstrap", address]
        return shlex.join(["shoal", *options, *words])

    def in_full(self, text: str) -> str:
        """A message with the options that were typed added to the commands it names, so that they can be typed so."""
        return _BARE_COMMAND.sub(lambda _: f"{self.command()} ", text)

    def locate_home(self) -> "Home":
        """The home of this command."""
        from shoal.node import Home

        return Home.locate(self.home)

    def load_network(self) -> "Network":
        """The network of this command; `UsageError` when its file or invite is wrong."""
        from shoal.node import network_of

        return network_of(self.locate_home(), self.network)


def globals_of(context: "typer.Context") -> Globals:
    """The options of `shoal` itself, wherever they stood on the command line."""
    found = context.find_object(Globals)
    if found is None:
        raise RuntimeError("a command was reached without the options of the program")
    return found


def given_path(value: str | None, option: str) -> Path | None:
    """The path in an option or a variable; `~` is a home folder, which no shell has put there in `SHOAL_HOME='~/x'`.

    An empty environment variable means the default. BadUsageError for what cannot be part of a path.
    """
    if not value:
        return None
    if "\0" in value:
        raise BadUsageError(f"{option}: a path cannot contain a NUL character.")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        user = value.partition("/")[0]
        raise BadUsageError(
            f"{option}: {user} is the home folder of nobody known here. For a folder of that name write ./{user}"
        ) from error


def scan_output(arguments: Sequence[str], environment: Mapping[str, str]) -> Output:
    """How to talk before the command line is parsed, and when it turns out that it cannot be.

    A flag is believed wherever it stands, since the error may be just that it stands in the wrong place.
    """
    given = list(arguments)
    options = given[: given.index("--")] if "--" in given else given
    return Output(
        json="--json" in options or environment.get("SHOAL_JSON", "").strip().lower() in TRUE_WORDS,
        quiet="--quiet" in options,
    )


def split_addresses(values: Sequence[str]) -> tuple[str, ...]:
    """Addresses from repeated options and comma-separated lists alike, empty items left out."""
    return tuple(item.strip() for value in values for item in value.split(",") if item.strip())
