"""Virtual environments of the systems, made once and kept."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .processes import MeasureError

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALL_LIMIT_S = 900.0
TAHOE_PYTHONS = ((3, 9), (3, 12))  # the oldest and the newest that Tahoe-LAFS 1.20 says it runs on
TAHOE = ("setuptools<81", "tahoe-lafs==1.20.0")  # it imports pkg_resources, which setuptools 81 no longer has
TORRENT = ("libtorrent>=2.1,<2.2",)
WORMHOLE = ("magic-wormhole>=0.24,<0.25", "magic-wormhole-mailbox-server")
LAST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Environment:
    """A folder with a Python of its own."""

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    def script(self, name: str) -> str:
        """A command that was installed into it."""
        return str(self.folder / "bin" / name)


def tahoe_environment(cache: Path) -> Environment:
    """Tahoe-LAFS from PyPI."""
    return make(cache / "tahoe", tahoe_python(), TAHOE)


def torrent_environment(cache: Path) -> Environment:
    """libtorrent from PyPI."""
    return make(cache / "torrent", sys.executable, TORRENT)


def wormhole_environment(cache: Path) -> Environment:
    """magic-wormhole from PyPI, with a mailbox server."""
    return make(cache / "wormhole", sys.executable, WORMHOLE)


def plain_shoal_environment(cache: Path) -> Environment:
    """This checkout without the extra `fast`, which leaves it zfec, on the same Python as ours."""
    requirements = ["--constraint", str(CHECKOUT / "constraints.txt"), "--editable", str(CHECKOUT)]
    return make(cache / "shoal-zfec", sys.executable, requirements, made_from=("pyproject.toml", "constraints.txt"))


def make(folder: Path, python: str, requirements: Sequence[str], made_from: Sequence[str] = ()) -> Environment:
    """The environment in `folder`, made anew unless it was made of the same before. MeasureError when pip fails."""
    environment, stamp = Environment(folder), folder / "made-of.json"
    recipe = json.dumps([python, *requirements, *(CHECKOUT.joinpath(name).read_text() for name in made_from)])
    if stamp.exists() and stamp.read_text() == recipe:
        return environment
    print(f"installing {' '.join(requirements)} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run([python, "-m", "venv", str(folder)])
    _run([environment.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
    stamp.write_text(recipe)
    return environment


def _run(argv: Sequence[str]) -> None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeasureError(f"{argv[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        errors = [line.strip() for line in said if "error:" in line.lower()]  # pip says more after it
        raise MeasureError(f"{' '.join(argv[:4])} failed: {' / '.join((errors or said)[-LAST_WORDS:])}")


def tahoe_python() -> str:
    """Our own Python where Tahoe-LAFS runs on it, so that both systems run on the same; else one that is found."""
    oldest, newest = TAHOE_PYTHONS
    names = [f"python3.{minor}" for minor in range(newest[1], oldest[1] - 1, -1)]
    for candidate in (sys.executable, *names, *(f"/usr/bin/{name}" for name in names)):
        version = _version(candidate)
        if version is not None and oldest <= version <= newest:
            return shutil.which(candidate) or candidate
    raise MeasureError("Tahoe-LAFS 1.20 needs a Python from 3.9 to 3.12, and none was found")


def _version(python: str) -> tuple[int, int] | None:
    """What a Python says it is. Running it is the only sure test: a name may be a wrapper for one that is missing."""
    with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError):
        question = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
        done = subprocess.run([python, "-c", question], capture_output=True, text=True, timeout=30, check=True)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    return None


def codec_of(python: str) -> str:
    """The erasure codec that Shoal chooses in an environment."""
    question = "from shoal.erasure import best_codec; print(best_codec().name)"
    done = subprocess.run([python, "-P", "-c", question], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise MeasureError(f"Shoal cannot be imported by {python}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.strip()


def bare_variables() -> dict[str, str]:
    """Our environment variables without those that steer any of the systems, or Python's module search."""
    unwanted = ("SHOAL_", "TAHOE_", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(unwanted) and not name.lower().endswith("_proxy")
    }
