"""benchmarks/hard_use.py in short: real daemons in trouble, and commands that say what is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "hard_use.py"
LIMIT_S = 300.0  # on a machine that is busy; it takes half a minute on an idle one


def test_nothing_is_lost_and_nothing_untrue_is_said(tmp_path: Path) -> None:
    options = ("--minutes", "0.12", "--nodes", "5", "--epoch", "2", "--seed", "3")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = dict(re.findall(r"^(.+?) {2,}(\d+)$", done.stdout, re.MULTILINE))
    assert all(int(figures[name]) > 0 for name in ("publishes", "fetches", "checks", "looks at a node"))
    assert any(name.startswith("fault: ") for name in figures)
    assert figures["files lost"] == figures["wrong bytes"] == figures["messages that were untrue"] == "0"
