"""A volunteer's life by the command line: init, run, status, and the end."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

QUICK_NETWORK = 'network = "test"\npow_bits = 0\nprivate = true\n'


@pytest.fixture
def quick(tmp_path: Path, clean_environment: dict[str, str]) -> dict[str, str]:
    """Variables for a network whose node ids cost nothing."""
    path = tmp_path / "network.toml"
    path.write_text(QUICK_NETWORK)
    clean_environment["SHOAL_NETWORK"] = str(path)
    return clean_environment


def init(inside: Any, *arguments: str) -> Any:
    return inside("--json", "node", "init", "--listen", "127.0.0.1:0", *arguments)


def test_init_once(inside: Any, quick: dict[str, str], tmp_path: Path) -> None:
    done = init(inside, "--capacity", "5GB", "--reserve", "1GiB", "--up", "2MB/s", "--down", "unlimited")
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert (summary["capacity_bytes"], summary["reserve_bytes"]) == (5 * 10**9, 2**30)
    files = {path.name: path.read_bytes() for path in (tmp_path / "home").iterdir()}
    assert b"up_bytes_per_s = 2000000" in files["config.toml"]
    assert stat.S_IMODE((tmp_path / "home" / "node.key").stat().st_mode) == 0o600
    again = init(inside, "--capacity", "6GB")
    assert again.returncode == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "home").iterdir()} == files


def test_init_for_people(inside: Any, quick: dict[str, str]) -> None:
    done = inside("node", "init", "--capacity", "50GB")
    assert len(bytes.fromhex(done.stdout.strip())) == 32
    assert "offers up to 50GB" in done.stderr
    assert "Start it with: shoal node run\n" in done.stderr


@pytest.mark.parametrize("option", [("--listen", "nowhere"), ("--advertise", "1.2.3.4"), ("--capacity", "5G")])
def test_init_with_nonsense_makes_nothing(
    inside: Any, quick: dict[str, str], tmp_path: Path, option: tuple[str, str]
) -> None:
    done = inside("node", "init", *option)
    assert done.returncode == 2
    assert option[0] in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_bare_number_is_not_taken_for_bytes(inside: Any, quick: dict[str, str], tmp_path: Path) -> None:
    done = init(inside, "--capacity", "50")
    assert done.returncode == 2
    assert "50 would be bytes. Write the unit, as in 50GB." in done.stdout
    assert init(inside, "--capacity", "5000000").returncode == 0


def test_more_than_the_disk_has_is_told(inside: Any, quick: dict[str, str]) -> None:
    done = inside("node", "init", "--capacity", "900PB")
    assert done.returncode == 0
    assert "less than the 900PB offered. The node takes what fits." in done.stderr


def test_init_keeps_what_a_person_wrote(inside: Any, quick: dict[str, str], tmp_path: Path) -> None:
    settings = tmp_path / "home" / "config.toml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("# mine\ncapacity_bytes = 7000000\n")
    refused = inside("node", "init", "--capacity", "50GB")
    assert refused.returncode == 2
    assert "with other settings, and is left alone" in refused.stderr
    done = inside("node", "init")
    assert done.returncode == 0
    assert f"The settings in {settings} are kept." in done.stderr
    assert settings.read_text() == "# mine\ncapacity_bytes = 7000000\n"


def test_run_before_init(inside: Any, quick: dict[str, str]) -> None:
    done = inside("node", "run")
    assert done.returncode == 2
    assert "shoal node init" in done.stderr


def test_status_without_a_daemon(inside: Any, quick: dict[str, str]) -> None:
    assert inside("node", "status").returncode == 1
    init(inside)
    done = inside("node", "status")
    assert done.returncode == 1
    assert "No node runs" in done.stderr


def test_the_command_in_an_error_names_the_home_that_was_typed(
    inside: Any, quick: dict[str, str], tmp_path: Path
) -> None:
    home = str(tmp_path / "my home")
    for command in (("node", "run"), ("node", "leave"), ("ls", "--receipt", "x"), ("node", "status"), ("doctor",)):
        done = inside("--home", home, *command)
        assert done.returncode != 0
        assert "shoal " not in done.stderr.removeprefix("shoal: ").replace(f"shoal --home '{home}' ", "")


@pytest.mark.parametrize("options", [("--json",), ("-vv",)])
def test_a_reader_that_does_not_read_stops_no_node(inside: Any, quick: dict[str, str], options: tuple[str]) -> None:
    """Standard output and error go into a pipe that is full. The node works, and it ends when it is told to."""
    init(inside)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)
    command = [sys.executable, "-m", "shoal.cli", *options, "node", "run"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=quick) as process:
        deadline = time.monotonic() + 30
        while inside("node", "status").returncode:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 130
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_and_stop(inside: Any, quick: dict[str, str], number: int) -> None:
    init(inside)
    with subprocess.Popen(
        [sys.executable, "-m", "shoal.cli", "--json", "node", "run"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=quick,
    ) as process:
        assert process.stdout is not None
        listening = json.loads(process.stdout.readline())
        assert (listening["message_type"], listening["event"]) == ("status", "listening")
        assert listening["pid"] == process.pid
        assert int(listening["addresses"][0].rpartition(":")[2]) > 0
        summary = json.loads(inside("--json", "node", "status").stdout)
        assert (summary["node_id"], summary["address"]) == (listening["node_id"], listening["addresses"][0])
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["code"] == 130
    assert err == ""
    assert inside("node", "status").returncode == 1


def test_a_node_that_runs_says_what_is_wrong_with_its_disk(
    shoal: Any, inside: Any, quick: dict[str, str], tmp_path: Path
) -> None:
    init(inside)
    assert "Warning" not in shoal("node", "run", "--stop-on-eof").stderr
    shutil.rmtree(tmp_path / "home" / "store")
    done = shoal("node", "run", "--stop-on-eof")
    assert done.returncode == 0
    assert f"Warning: {tmp_path / 'home' / 'store'} is empty" in done.stderr


def test_the_status_of_a_node_with_a_problem_has_a_code_of_its_own(
    inside: Any, quick: dict[str, str], tmp_path: Path
) -> None:
    init(inside)
    for problems, code in ((0, 0), (1, 3)):
        with subprocess.Popen(
            [sys.executable, "-m", "shoal.cli", "--json", "node", "run"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=quick,
        ) as process:
            assert process.stdout is not None
            while json.loads(process.stdout.readline())["message_type"] != "status":
                pass
            done = inside("--json", "node", "status")
            assert (done.returncode, len(json.loads(done.stdout)["problems"])) == (code, problems)
            doctor = inside("--json", "doctor")
            told = json.loads(doctor.stdout)
            assert (doctor.returncode, told["ok"]) == (code, not problems)
            assert [each["subject"] for each in told["findings"] if each["level"] == "problem"] == ["node"] * problems
            process.terminate()
            process.communicate(timeout=30)
        shutil.rmtree(tmp_path / "home" / "store")


def test_people_see_one_clear_line(shoal: Any, inside: Any, quick: dict[str, str]) -> None:
    init(inside)
    done = shoal("node", "run", "--stop-on-eof", "--capacity", "1GB")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("listening on 127.0.0.1:")
    assert ", node id " in done.stderr.splitlines()[0]


def test_a_port_in_use(inside: Any, quick: dict[str, str]) -> None:
    import socket

    init(inside)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = inside("node", "run", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 1
    assert str(port) in done.stderr


@pytest.mark.parametrize("damage", ["truncated", "world-readable", "unknown key"])
def test_a_damaged_home(inside: Any, quick: dict[str, str], tmp_path: Path, damage: str) -> None:
    init(inside)
    home = tmp_path / "home"
    if damage == "truncated":
        os.truncate(home / "node.key", 10)
    elif damage == "world-readable":
        (home / "node.key").chmod(0o644)
    else:
        (home / "config.toml").write_text("colour = 3\n")
    done = inside("node", "run")
    assert done.returncode == (2 if damage == "unknown key" else 1)
    assert ("config.toml" if damage == "unknown key" else "node.key") in done.stderr
    assert "Traceback" not in done.stderr
