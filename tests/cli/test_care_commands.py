"""check, repair, renew, keep, unkeep and delete by the command line, on a network of real processes."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shoal.cli.commands import check, delete, keep, renew, repair
from shoal.cli.context import Globals
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId
from shoal.node import Checked, Deleted, Renewed, Repaired

LINK = Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32))
DAY_S = 86400
NOW = time.mktime((2026, 11, 22, 12, 0, 0, 0, 0, -1))
FEBRUARY = time.mktime((2027, 2, 20, 12, 0, 0, 0, 0, -1))
GOOD = {"ok": 46, "wrong": 0, "missing": 1, "offline": 1, "stalled": 0, "busy": 0}


def checked(good: int, hosts: int, **changes: Any) -> Checked:
    fields: dict[str, Any] = {
        "file_id": LINK.id,
        "k": 16,
        "n": 48,
        "good_shares": good,
        "hosts": hosts,
        "networks": 31,
        "readable": good >= 16,
        "survives": max(0, good - 16),
        "lease_until": FEBRUARY if good >= 16 else None,
        "outcomes": GOOD,
        "read_bytes": 0,
        "verified": False,
        "deleted": False,
        "seconds": 1.0,
    }
    return Checked(**(fields | changes))


# --- words


def test_the_line_of_check() -> None:
    assert check.words(checked(46, 46), NOW) == (
        "46 of 48 shares good on 46 hosts in 31 networks (16 needed): survives any 30 losses; "
        "lease until 2027-02-20 12:00"
    )
    assert "survives any 1 loss;" in check.words(checked(17, 17), NOW)
    assert "survives no loss;" in check.words(checked(16, 16), NOW)
    assert check.words(checked(3, 3, networks=1), NOW) == (
        "3 of 48 shares good on 3 hosts in 1 network (16 needed); it cannot be read now"
    )


@pytest.mark.parametrize(("good", "code"), [(48, 0), (47, 3), (16, 3), (15, 10), (0, 10)])
def test_exit_codes_of_check(good: int, code: int) -> None:
    assert check.exit_code(checked(good, good)) == code


def test_what_is_not_good_is_told_with_what_to_do(recorded: Callable[..., Any]) -> None:
    output = recorded()
    settings = Globals(Path("/h"), None, (), output)
    check.notes(settings, LINK, checked(46, 46, verified=True))
    said = output.err.getvalue()
    assert "Not good: 1 lost by their host, 1 on hosts that are away." in said
    assert f"shoal --home /h repair {LINK.hash}" in said
    assert "#" not in said
    assert "Read every block" in said
    check.notes(settings, LINK, checked(3, 3, deleted=True))
    check.notes(settings, LINK, checked(3, 3))
    assert "may come back" in output.err.getvalue()
    silent = recorded()
    check.notes(Globals(Path("/h"), None, (), silent), LINK, checked(48, 48))
    assert silent.err.getvalue() == "", "a host that was replaced is no fault of the file"
    assert "owner has deleted" in output.err.getvalue()


def test_a_lease_that_has_ended_is_told(recorded: Callable[..., Any]) -> None:
    ended = checked(48, 48, lease_until=time.time() - DAY_S)
    assert "survives any 32 losses; its lease ended 2" in check.words(ended)
    output = recorded()
    check.notes(Globals(Path("/h"), None, (), output), LINK, ended)
    assert f"Keep it with: shoal --home /h renew {LINK.hash}" in output.err.getvalue()


def test_several_shares_on_one_host_are_told(recorded: Callable[..., Any]) -> None:
    output = recorded()
    check.notes(Globals(Path("/h"), None, (), output), LINK, checked(2, 2, readable=True, lease_until=FEBRUARY))
    assert "each host counts once" in output.err.getvalue()


def test_nothing_good_at_all_is_no_dead_end(recorded: Callable[..., Any]) -> None:
    output = recorded()
    check.notes(Globals(Path("/h"), None, (), output), LINK, checked(0, 0, outcomes={"offline": 12}))
    assert "Check again later" in output.err.getvalue()


def test_a_holder_that_went_meanwhile_is_no_host_that_was_not_found() -> None:
    gone = Repaired(LINK.id, 4, 12, (0, 7), 10, 11, 11, 0, 0, FEBRUARY, True, {}, 1.0)
    assert repair.missing_words(gone).startswith("Some hosts that were good before did not answer again")


def test_nobody_who_confirms_is_no_deletion() -> None:
    assert not Deleted(LINK.id, 0, {}).complete
    assert Deleted(LINK.id, 1, {}).complete


def test_a_receipt_is_read_before_the_network_is_asked(inside: Any, tmp_path: Path) -> None:
    done = inside("--network", "/nowhere", "delete", "--receipt", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "Cannot read the receipt" in done.stderr


def test_other_words() -> None:
    made = Repaired(LINK.id, 4, 12, (0, 7), 10, 12, 12, 2_000_000, 4_000_000, FEBRUARY, True, {}, 1.0)
    assert repair.words(made) == (
        "Rebuilt 2 shares (2.00 MB sent, 4.00 MB read): 12 of 12 shares good on 12 hosts (4 needed)"
    )
    renewed = renew.words(Renewed(LINK.id, 4, 12, 11, 11, {"silent": 1}, time.time() + 90 * DAY_S))
    assert renewed.endswith(": 11 of 12 shares on 11 hosts (4 needed). Of the other hosts, 1 did not answer")
    assert delete.words(Deleted(LINK.id, 1, {})) == "1 host dropped the file"
    some_busy = Deleted(LINK.id, 9, {"silent": 2, "refused": 1, "busy": 3})
    assert delete.words(some_busy) == (
        "9 hosts dropped the file, 3 answered that they are busy, 2 did not answer, 1 refused"
    )


def test_a_repair_that_finds_no_host_says_how_many_it_takes() -> None:
    left = Repaired(LINK.id, 4, 12, (), 10, 10, 10, 0, 0, FEBRUARY, True, {}, 1.0)
    assert repair.missing_words(left) == (
        "No host was found for the other 2 shares. Each share needs a host that has no share of the file yet. "
        "Try again when the network has more hosts."
    )
    refused = Repaired(LINK.id, 4, 12, (3,), 10, 11, 11, 1, 1, FEBRUARY, True, {"full": 2}, 1.0)
    assert repair.missing_words(refused).startswith("No host was found for the other share (2 full). Each")


def test_who_keeps_a_file_without_a_node_is_told_how_to_start_one(
    recorded: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHOAL_HOME", raising=False)
    settings = Globals(tmp_path, None, (), recorded())
    command = f"shoal --home {tmp_path} node"
    assert keep.nobody_words(settings).endswith(f"with: {command} init --capacity 50GB, then: {command} run")
    (tmp_path / "node.key").write_bytes(b"")
    assert keep.nobody_words(settings).endswith(f"with: {command} run")


# --- the real thing


class Commands:
    """Runs commands as `shoal --json` does, from homes of their own, and gives code and last object."""

    def __init__(self, inside: Any, network_file: str, folder: Path) -> None:
        self._inside = inside
        self._network_file = network_file
        self._folder = folder

    def __call__(self, *arguments: str, home: str = "publisher", link: str = "") -> tuple[int, dict[str, Any]]:
        environment = {"SHOAL_NETWORK": self._network_file, "SHOAL_HOME": str(self._folder / home), "SHOAL_LINK": link}
        done = self._inside("--json", *arguments, environment=environment)
        message = json.loads(done.stdout.splitlines()[-1])
        assert isinstance(message, dict)
        return done.returncode, message


@pytest.fixture
def commands(inside: Any, swarm: Any, tmp_path: Path) -> Commands:
    return Commands(inside, swarm.network_file, tmp_path)


def published(commands: Commands, folder: Path, *options: str) -> dict[str, Any]:
    source = folder / "source"
    source.write_bytes(os.urandom(300_000))
    code, found = commands("publish", str(source), *options)
    assert code == 0
    return found


def test_a_files_life(commands: Commands, tmp_path: Path) -> None:
    found = published(commands, tmp_path, "--ttl", "2h")
    link, file_hash = found["link"], found["id"]
    code, seen = commands("check", file_hash, home="other")
    assert (code, seen["good_shares"], seen["hosts"], seen["readable"]) == (0, seen["n"], seen["n"], True)
    assert 0 < seen["seconds"] < 120
    assert abs(seen["lease_until"] - time.time() - 7200) < 60
    code, seen = commands("check", "--verify", link=link, home="other")
    assert (code, seen["verified"], seen["outcomes"]["ok"]) == (0, True, seen["n"])
    code, seen = commands("renew", file_hash, "--ttl", "2d", home="other")
    assert code == 0
    code, seen = commands("check", file_hash)
    assert commands("ls")[1]["files"][0]["lease_end"] == seen["lease_until"], "check has seen the renewal"
    code, seen = commands("renew", file_hash, "--ttl", "3d", home="other")
    assert (code, seen["shares"]) == (0, seen["n"])
    assert abs(seen["lease_until"] - time.time() - 3 * DAY_S) < 60
    code, seen = commands("keep", file_hash, home="other")
    assert code == 0
    code, seen = commands("ls", home="other")
    assert [file["id"] for file in seen["kept"]] == [file_hash]
    assert commands("unkeep", link, home="other")[0] == 0
    assert commands("unkeep", link, home="other")[0] == 1
    code, seen = commands("repair", file_hash, home="other")
    assert (code, seen["rebuilt"], seen["complete"]) == (0, [], True)
    assert commands("delete", link, home="other")[0] == 2
    told = commands("delete", link, home="other")[1]["message"]
    assert "made there" in told
    assert "shoal" not in told.lower(), "a command with this home's options would be of no use"
    for command in ("check", "info", "repair", "renew", "keep", "unkeep"):
        code, seen = commands(command, "source")
        assert (code, seen["id"]) == (0, file_hash)
        assert commands(command, "source", home="other")[0] == 2
    assert commands("ls", "--receipt", "source")[1]["id"] == file_hash
    code, seen = commands("fetch", "source", "-o", str(tmp_path / "by name"))
    assert (code, (tmp_path / "by name").read_bytes()) == (0, (tmp_path / "source").read_bytes())
    assert commands("delete", "source", home="other")[0] == 2
    assert commands("delete", "no such name")[0] == 2
    code, seen = commands("ls", "--receipt", link)
    receipt = tmp_path / "receipt"
    receipt.write_text(seen["receipt"])
    code, seen = commands("delete", "--receipt", str(receipt), home="other")
    assert (code, seen["id"], seen["causes"]) == (0, file_hash, {})
    assert seen["confirmed"] == found["shares"]
    assert commands("fetch", link, "-o", str(tmp_path / "copy"), home="other")[0] == 10
    assert commands("check", file_hash, home="other")[0] == 10


def test_a_narrow_file_is_made_wider(commands: Commands, tmp_path: Path) -> None:
    found = published(commands, tmp_path, "--needed", "1", "--total", "3")
    for command in ("check", "keep"):
        code, seen = commands(command, "source")
        assert (code, seen["n"], seen["possible_n"], seen["could_survive"]) == (0, 3, 6, 4)
        assert seen["network_hosts"] == 6
    assert commands("republish", found["id"], home="other")[0] == 2  # the hash has no key
    code, done = commands("republish", "source")
    assert (code, done["k"], done["n"], done["survives"], done["old_survives"]) == (0, 2, 6, 4, 2)
    assert (done["old_id"], done["kept"]) == (found["id"], True)
    old, new = commands("ls")[1]["files"]
    assert (old["replaced_by"], new["id"], new["name"]) == (done["id"], done["id"], "source")
    assert commands("fetch", done["link"], "-o", str(tmp_path / "copy"), home="other")[0] == 0
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "source").read_bytes()
    assert commands("republish", done["link"])[0] == 15  # it is as wide as this network allows


def test_lost_shares_are_repaired(start_swarm: Any, inside: Any, tmp_path: Path) -> None:
    swarm = start_swarm(tmp_path / "swarm", 7)
    commands = Commands(inside, swarm.network_file, tmp_path)
    found = published(commands, tmp_path, "--needed", "2", "--total", "4")
    keepers = {each["node_id"] for each in commands("info", found["id"])[1]["holders"]}
    numbers = [each["number"] for each in swarm.ready["nodes"] if each["node_id"] in keepers]
    pids = swarm.node_pids()
    victims = [number for number in numbers if number != min(pids)][:2]
    for number in victims:
        os.kill(pids[number], signal.SIGKILL)
    code, seen = commands("check", found["id"])
    assert (code, seen["good_shares"], seen["readable"], seen["survives"]) == (3, 2, True, 0)
    assert seen["outcomes"]["offline"] == 2
    code, seen = commands("repair", found["id"])
    assert (code, seen["good_before"], seen["good_after"], len(seen["rebuilt"])) == (0, 2, 4, 2)
    assert commands("check", found["id"])[1]["good_shares"] == 4


def test_nobody_knows_the_file(commands: Commands) -> None:
    for command in ("check", "repair", "renew", "keep"):
        code, message = commands(command, LINK.hash)
        assert (code, message["message_type"], message["code"]) == (10, "error", 10)
    assert commands("delete", LINK.hash)[0] == 2
    assert commands("renew", LINK.hash, "--ttl", "91d")[0] == 2
    assert commands("renew", LINK.hash, "--ttl", "soon")[0] == 2
    assert commands("delete", "--receipt", "/nonexistent")[0] == 1
    assert commands("check", "shoal:nonsense")[0] == 2
