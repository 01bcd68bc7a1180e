"""The embedding example does what it says, as a program of its own."""

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "examples" / "embed.py"


def test_the_example_runs() -> None:
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("shoal:")
    assert lines[1:] == [
        "3 shares on 3 hosts; survives the loss of any 2",
        "streamed 500000 of 500000 bytes",
        "fetched letters.txt: 500000 bytes",
        "published: letters.txt, 500000 bytes",
    ]
