"""The real command in a process of its own: help, usage errors, exit codes, start-up. No network here."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.cli.app import parse
from shoal.cli.context import Job, scan_output, split_addresses
from shoal.cli.exits import BadUsageError
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId

LINK = str(Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32)))
CARE = ("check", "repair", "renew", "keep", "unkeep", "delete", "republish")
OTHERS = ("invite", "join", "web", "doctor", "node", "demo", "swarm", "simulate", "completion")
COMMANDS = ("publish", "fetch", "cat", "info", "ls", *CARE, *OTHERS)

START_LIMIT_S = 0.75  # of the processor's time, whatever else the machine does; measured: 0.15 s


def test_help_names_every_command_and_each_has_its_own(shoal: Any) -> None:
    helped = shoal("--help")
    assert helped.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in helped.stdout
    assert "node" in shoal("node", "init", "--help").stdout


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("fetch", LINK[:-1] + "#"), ("publish",)])
def test_starts_fast(shoal: Any, arguments: tuple[str, ...]) -> None:
    taken_s = []
    for _ in range(2):
        before_s = children_s()
        shoal(*arguments)
        taken_s.append(children_s() - before_s)
    assert min(taken_s) < START_LIMIT_S


def children_s() -> float:
    """The processor's time of all processes that have been started and have ended, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize(
    "arguments", [["--help"], ["publish"], ["fetch", "shoal:abc"], ["publish", "--ttl", "3y", "x"]]
)
def test_nothing_heavy_is_loaded_to_refuse_a_command_line(arguments: list[str]) -> None:
    code = (
        "import sys; from shoal.cli.main import run; run(sys.argv[1:]);"
        "print(sorted({'trio', 'rich', 'pydantic', 'nacl', 'asyncio', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_version(shoal: Any) -> None:
    done = shoal("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("shoal 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["publsh"], r"Did you mean 'publish', 'republish'\? See: shoal --help"),
        (["--bogus", "ls"], "No such option: --bogus"),
        (["publish"], "Missing argument"),
        (["publish", "a", "-"], "cannot be part of a folder"),
        (["publish", "a", "--symlinks", "copy"], r"--symlinks: 'copy' is none of store, skip, follow"),
        (["publish", "a", "--exclude-from", ""], "--exclude-from: the path is empty"),
        (["publish", "--needed", "0", "--total", "3", "a"], "whole number from 1 to 256"),
        (["publish", "--needed", "5", "--total", "3", "a"], "is more than --total 3"),
        (["publish", "--needed", "3", "--total", "257", "a"], "whole number from 1 to 256"),
        (["publish", "--needed", "3", "--total", "10", "--happy", "2", "a"], "--happy 2 is not between"),
        (["publish", "--total", "6", "--happy", "1", "a"], "--happy 1 is not between 2 and 6"),
        (["publish", "--needed", "2", "--happy", "7", "a"], "--happy 7 is not between 2 and 6"),
        (["publish", "--ttl", "59m", "a"], "'59m' is not from 1h to 90d"),
        (["publish", "--ttl", "91d", "a"], "'91d' is not from 1h to 90d"),
        (["publish", "--ttl", "soon", "a"], "--ttl: 'soon' is not a duration"),
        (["publish", ""], "empty"),
        (["fetch", "--bogus"], "No such option"),
        (["fetch", "shoal:abc"], "Malformed link"),
        (["fetch", LINK.partition("#")[0]], "This link has no key"),
        (["fetch", LINK, "-o", ""], "-o: the path is empty"),
        (["cat", LINK, "--offset", "-1"], "--offset: '-1' is not a size"),
        (["cat", LINK, "--length", "1K"], "--length: '1K' is ambiguous"),
        (["cat", LINK.partition("#")[0]], "This link has no key"),
        (["info"], "No link was given"),
        (["--json"], r"Missing command. See: shoal --help"),
        (["node", "--json"], "Missing command. See: shoal node --help"),
        (["ls", "--home", "a\0b"], "a path cannot contain a NUL"),
        (["node", "init", "--capacity", "many"], "--capacity: 'many' is not a size"),
        (["node", "init", "--up", "0"], "--up: '0' would never move a byte"),
        (["node", "run", "--down", "2Mb/s"], "rates are in bytes"),
        (["demo", "--nodes", "2"], "whole number from 3 to 200"),
        (["demo", "--size", "big"], "--size: 'big' is not a size"),
        (["swarm"], "Missing option '--dir'"),
        (["swarm", "--dir", ""], "--dir: the path is empty"),
    ],
)
def test_usage_errors(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOAL_LINK", raising=False)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(BadUsageError, match=words.replace("(", r"\(")):
        parse(arguments)


@pytest.mark.parametrize("switch", [{"arguments": ["--json"]}, {"environment": {"SHOAL_JSON": "1"}}])
def test_usage_errors_as_json(shoal: Any, switch: dict[str, Any]) -> None:
    done = shoal(*switch.get("arguments", []), "publish", environment=switch.get("environment", {}))
    assert done.returncode == 2
    message = json.loads(done.stdout)
    assert (message["message_type"], message["code"]) == ("error", 2)
    assert "Missing argument" in message["message"]
    assert done.stderr == ""


def test_usage_errors_for_people_go_to_stderr(shoal: Any) -> None:
    done = shoal("fetch", "shoal:\x1b[31m")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("shoal: Malformed link")
    done = shoal("--\x1b[31m")
    assert "\x1b" not in done.stderr
    assert done.returncode == 2


def test_json_of_a_fetch_to_stdout_goes_to_stderr(shoal: Any) -> None:
    done = shoal("--json", "--network", "/nonexistent.toml", "fetch", LINK, "-o", "-")
    assert done.returncode == 2
    assert done.stdout == ""
    assert json.loads(done.stderr.splitlines()[-1])["code"] == 2


def test_an_argument_that_is_not_utf8(shoal: Any) -> None:
    done = shoal(b"publish", b"/nonexistent-\xff\xfe\n")
    assert done.returncode in (1, 13)
    assert "Traceback" not in done.stderr


def test_options_and_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHOAL_HOME", "SHOAL_NETWORK", "SHOAL_JSON"):
        monkeypatch.delenv(name, raising=False)
    seen: list[Any] = []
    monkeypatch.setattr("shoal.cli.context.Globals.job", lambda globals_, work: seen.append(globals_))
    monkeypatch.setenv("SHOAL_BOOTSTRAP", "a:1,b:2, c:3")
    parse(["ls"])
    assert seen[-1].bootstrap == ("a:1", "b:2", "c:3")
    assert [each.home for each in seen] == [None]
    parse(["--bootstrap", "x:1", "--bootstrap", "y:2,z:3", "--home", "/h", "--network", "n", "-vv", "ls"])
    assert seen[-1].bootstrap == ("x:1", "y:2", "z:3")
    assert (seen[-1].home, seen[-1].network) == (Path("/h"), Path("n"))
    assert (seen[-1].output.verbose, seen[-1].output.json, seen[-1].output.quiet) == (2, False, False)
    monkeypatch.setenv("SHOAL_JSON", "yes")
    parse(["--quiet", "ls"])
    assert seen[-1].output.json
    assert seen[-1].output.quiet
    monkeypatch.setenv("SHOAL_JSON", "perhaps")
    with pytest.raises(BadUsageError, match="SHOAL_JSON"):
        parse(["ls"])


def test_options_of_the_program_may_stand_after_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SHOAL_")]:
        monkeypatch.delenv(name)
    seen: list[Any] = []
    monkeypatch.setattr("shoal.cli.context.Globals.job", lambda globals_, work: seen.append(globals_))
    parse(["--home", "/h", "--bootstrap", "x:1", "-v", "ls", "--json", "--bootstrap", "y:2", "-v", "--network", "n"])
    assert (seen[-1].home, seen[-1].network, seen[-1].bootstrap) == (Path("/h"), Path("n"), ("x:1", "y:2"))
    assert (seen[-1].output.json, seen[-1].output.quiet, seen[-1].output.verbose) == (True, False, 2)
    assert seen[-1].output.in_full("shoal ls").startswith("shoal --home /h --network n ")
    parse(["--home", "/h", "node", "--quiet", "status", "--home", "/later"])
    assert (seen[-1].home, seen[-1].output.quiet) == (Path("/later"), True)
    parse(["publish", "--name", "--json", "/etc/hosts"])
    assert not seen[-1].output.json, "there it is the value of another option"
    monkeypatch.setenv("SHOAL_HOME", "/of-the-environment")
    parse(["ls", "--home", "/typed"])
    assert seen[-1].home == Path("/typed")


SECRET = str(Link(FileId(bytes(range(32))), LinkKind.PRIVATE, bytes(range(100, 132))))
KEY = SECRET.partition("#")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("{}",),
        ("node", "{}"),
        ("--json", "{}"),
        ("ls", "{}"),
        ("fetch", "x", "{}"),
        ("--{}", "ls"),
        ("--{}=x", "ls"),
        ("publish", "{}"),
        ("publish", "x", "--ttl", "{}"),
        ("publish", "x", "--happy", "{}"),
        ("-v", "--network", "{}", "check", LINK),
        ("--bootstrap", "{}", "check", LINK),
        ("fetch", "--link-file", "{}"),
        ("fetch", LINK, "-o", "{}/x"),
        ("delete", "--receipt", "{}"),
        ("delete", "x{}"),
        ("node", "init", "--listen", "{}"),
        ("completion", "{}"),
        ("simulate", "--days", "{}"),
    ],
    ids=lambda arguments: " ".join(arguments).replace(LINK, "LINK"),
)
def test_a_link_in_a_wrong_place_is_never_repeated_with_its_key(inside: Any, arguments: tuple[str, ...]) -> None:
    bare = SECRET.removeprefix("shoal:")
    for wrong in (
        SECRET,
        bare,
        SECRET.replace("#", "%23"),
        SECRET[:-3],
        f"{SECRET[:90]} {SECRET[90:]}",
        f"<{SECRET[:80]}\n{SECRET[80:]}>",
    ):
        done = inside(*(argument.format(wrong) for argument in arguments))
        assert done.returncode in (1, 2, 13)
        shown = done.stdout + done.stderr
        assert not any(KEY[at : at + 8] in shown for at in range(len(KEY) - 8)), shown


def test_a_link_where_a_command_belongs(inside: Any) -> None:
    for link in (LINK, LINK.partition("#")[0], LINK.removeprefix("shoal:")):
        done = inside(link)
        assert done.returncode == 2
        assert done.stderr == "shoal: A link stands where a command belongs. Get its file with: shoal fetch LINK\n"


def test_a_home_with_a_tilde_is_in_the_home_folder(shoal: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `SHOAL_HOME='~/fish'` in a service's file, where no shell replaces it."""
    monkeypatch.chdir(tmp_path)
    me = {"HOME": str(tmp_path / "me")}
    assert f"home: {tmp_path}/me/fish\n" in shoal("-v", "ls", environment=me | {"SHOAL_HOME": "~/fish"}).stderr
    folders = {"SHOAL_HOME": "", "XDG_DATA_HOME": "~/a", "XDG_CONFIG_HOME": "~/a", "XDG_CACHE_HOME": "~/a"}
    assert f"home: {tmp_path}/me/a/shoal\n" in shoal("-v", "ls", environment=me | folders).stderr
    missing = shoal("ls", environment=me | {"SHOAL_NETWORK": "~/net.toml"})
    assert f"{tmp_path}/me/net.toml" in missing.stderr
    assert not (tmp_path / "~").exists()
    refused = shoal("ls", environment={"SHOAL_HOME": "~nobody-of-that-name/x"})
    assert refused.returncode == 2
    assert "write ./~nobody-of-that-name" in refused.stderr


@pytest.mark.parametrize("arguments", [(), ("--quiet",), ("node",), ("node", "-v")])
def test_no_command_shows_the_help_and_is_a_usage_error(shoal: Any, arguments: tuple[str, ...]) -> None:
    done = shoal(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Usage: shoal ")
    assert "--help" in done.stderr


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
def test_help_fits_the_terminal(shoal: Any, columns: int) -> None:
    for command in ((), ("publish",), ("node", "run"), ("simulate",)):
        text = shoal(*command, "--help", environment={"COLUMNS": str(columns)}).stdout
        assert max(len(line) for line in text.splitlines()) <= min(columns, 100)
        assert "..." not in text.replace("[ARGS]...", "").replace("{PATH|-}...", "")


def test_parsing_gives_a_job() -> None:
    assert isinstance(parse(["fetch", LINK]), Job)


def test_output_before_the_command_line_is_understood() -> None:
    assert scan_output(["publish", "--json"], {}).json
    assert scan_output([], {"SHOAL_JSON": "1"}).json
    assert not scan_output(["publish", "--", "--json"], {"SHOAL_JSON": "0"}).json
    assert scan_output(["--quiet", "x"], {}).quiet


def test_addresses_may_be_repeated_or_comma_separated() -> None:
    assert split_addresses(["a:1,b:2", "", " c:3 ,"]) == ("a:1", "b:2", "c:3")


def test_closed_standard_output_is_quiet(shoal: Any, clean_environment: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = shoal("--json", "fetch", "shoal:abc", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (2, "")
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        script = f'"{sys.executable}" -m shoal.cli --help {closed}'
        done = subprocess.run(
            ["bash", "-c", script],
            capture_output=True,
            text=True,
            env=clean_environment,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0
        assert done.stderr == ""


def test_a_full_standard_output_is_told(shoal: Any) -> None:
    with open("/dev/full", "w") as full:
        done = shoal("--help", stdout=full)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


BUG = """
import sys
import shoal.cli.app, shoal.cli.main
from shoal.cli.context import Job
from shoal.cli.output import Output

def broken() -> int:
    raise ExceptionGroup("inner", [RuntimeError("the reason")])

shoal.cli.app.parse = lambda arguments: Job(Output(verbose=len(arguments)), broken)
sys.exit(shoal.cli.main.run(sys.argv[1:]))
"""


@pytest.mark.parametrize("verbose", [False, True])
def test_a_bug_of_ours_is_one_line_and_a_traceback_only_with_v(verbose: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUG, *(["-v"] if verbose else [])],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "This is a bug in Shoal: RuntimeError: the reason." in done.stderr
    assert ("Traceback" in done.stderr) == verbose


SLEEPER = """
import sys, time
import shoal.cli.app, shoal.cli.main
from shoal.cli.context import Job
from shoal.cli.output import Output
from shoal.cli.runner import run

def blocking() -> int:
    print("ready", flush=True)
    time.sleep(30)
    return 0

async def asynchronous() -> int:
    import trio
    try:
        print("ready", flush=True)
        await trio.sleep(30)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.05)
        print("cleaned", flush=True)
    return 0

output = Output()
output.interrupt_hint = "Go on with the same command."
jobs = {"blocking": Job(output, blocking), "asynchronous": Job(output, lambda: run(asynchronous, output))}
shoal.cli.app.parse = lambda arguments: jobs[arguments[0]]
sys.exit(shoal.cli.main.run(sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_a_command_with_130_after_its_clean_up(
    kind: str, number: str, clean_environment: dict[str, str]
) -> None:

    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER, kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, number))
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "shoal: Interrupted. Go on with the same command.\n"
    assert out == ("cleaned\n" if kind == "asynchronous" else "")


DESTRUCTOR = """
import os, signal, sys, time
import shoal.cli.app, shoal.cli.main
from shoal.cli.context import Job
from shoal.cli.output import Output

class Interrupted:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

def work() -> int:
    Interrupted()
    time.sleep(30)
    return 0

shoal.cli.app.parse = lambda arguments: Job(Output(), work)
sys.exit(shoal.cli.main.run([]))
"""


def test_a_signal_that_python_swallows_comes_again() -> None:
    done = subprocess.run([sys.executable, "-c", DESTRUCTOR], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (130, "shoal: Interrupted.\n")


IMPATIENT = """
import os, signal, sys
sys.argv[1:] = ["--json", "ls"]
import shoal.cli.main
import shoal.cli.context  # imported by now, so that the next import is that of the command line

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "shoal.cli.app":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
shoal.cli.main.main()
"""


def test_an_interrupted_start_is_told_in_json_too() -> None:
    done = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert json.loads(done.stdout) == {"message_type": "error", "code": 130, "message": "Interrupted."}


EARLY = """
import os, signal, sys
import shoal.cli.main
sys.argv[1:] = ["ls"]

def strike(frame, event, argument):
    if frame.f_code.co_name == "_fill_standard_descriptors":
        sys.setprofile(None)
        os.kill(os.getpid(), getattr(signal, os.environ["STRIKE"]))

sys.setprofile(strike)
shoal.cli.main.main()
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_in_the_first_moments_ends_a_command_with_130(number: str, clean_environment: dict[str, str]) -> None:
    environment = clean_environment | {"STRIKE": number}
    command = [sys.executable, "-c", EARLY]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, env=environment)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


LATE = """
import os, signal, sys
import shoal.cli.main
sys.argv[1:] = ["--version"]

def strike(frame, event, argument):
    if frame.f_code.co_name == "_end":
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)

sys.setprofile(strike)
shoal.cli.main.main()
"""


def test_a_signal_as_the_process_ends_changes_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("shoal ")


def test_a_signal_after_the_result_changes_nothing(clean_environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "shoal.cli", "--version"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": clean_environment}
    for delay_s in (0.0, 0.0002, 0.0004, 0.002, 0.005, 0.01, 0.02):
        with subprocess.Popen(command, **pipes) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay_s)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=20)
        assert process.returncode in (0, 130)
        assert b"Traceback" not in err


def test_a_name_for_every_command_function(recorded: Callable[..., Any]) -> None:
    from shoal.cli import app

    assert set(app.COMMANDS) == set(COMMANDS)
    assert all(info.callback for info in app.make_app().registered_commands)
