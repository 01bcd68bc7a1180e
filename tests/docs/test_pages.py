"""What the pages say of the code is compared with the code: numbers, public names, links.

When constants have moved to other modules, `python tests/docs/test_pages.py` writes the new ones into docs/care.md.
"""

import importlib
import re
from pathlib import Path

import pytest

import shoal.node
from shoal.dht import reunion, severed
from shoal.dht.messages import MIN_REQUEST_BYTES
from shoal.dht.rpc import MAX_ATTEMPTS
from shoal.node.care.health import emergency_at, repair_at

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CARE = DOCS / "care.md"
NODE = ROOT / "node"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
UNITS = {
    "s": 1,
    "min": 60,
    "h": 3600,
    "day": 86400,
    "days": 86400,
    "epoch": 1,
    "epochs": 1,
    "": 1,
    "kB/s": 1000,
    "MB/s": 1_000_000,
}
NUMBER_ROW = re.compile(
    r"^\| .+ \| (?:1/)?([\d.,]+) ?([A-Za-z/]*) \| `([A-Z_]+)` \| `(\w+(?:/\w+)*)\.py` \|$", re.MULTILINE
)
CODE_ROW = re.compile(r"^\| (\d+) of (\d+) \| (\d+) \| (\d+) \|$", re.MULTILINE)


def test_the_numbers_of_care_are_those_of_the_code() -> None:
    _, table = CARE.read_text().split("## All numbers")
    rows = NUMBER_ROW.findall(table)
    assert len(rows) == sum(line.startswith("| ") for line in table.splitlines()) - 1, "a row has another form"
    wrong = []
    for number, unit, name, module in rows:
        value = getattr(importlib.import_module(f"shoal.node.{module.replace('/', '.')}"), name, None)
        if value != float(number.replace(",", "")) * UNITS[unit]:
            wrong.append(f"{name} in {module} is {value}")
    assert not wrong, f"{CARE} says otherwise: {wrong}. Constants that moved: python tests/docs/test_pages.py"


def test_what_a_node_sends_to_be_found_again_is_what_the_code_allows() -> None:
    """Pings of 192 bytes, each sent up to three times until it is answered."""
    known, lost = reunion.MAX_INTRODUCED, severed.MAX_LOST + reunion.MAX_DOORS_ASKED
    pacing_s = (known - 1 + lost - 1) / reunion.INTRODUCTIONS_PER_S
    return_s = pacing_s + reunion.SECOND_LOOK_S + reunion.RETURN_SPACING_S
    wave_s = reunion.WAVE_S + (reunion.MAX_WAVE - 1) / reunion.INTRODUCTIONS_PER_S
    seek_s, last_s = 0.8 * reunion.SEEK_S, 0.8 * severed.SOUGHT_FOR_S / reunion.SEEK_PARTS
    pulse_s = 0.9 * reunion.PULSE_S
    page = (DOCS / "threat-model.md").read_text()
    for row, pings, every_s in (
        (f"makes itself known | {known + lost} peers twice, every {return_s:.0f} s", 2 * (known + lost), return_s),
        (f"losses | {reunion.MAX_WAVE} contacts twice, every {wave_s:.0f} s", 2 * reunion.MAX_WAVE, wave_s),
        (
            f"a week | {reunion.SOUGHT + 1} peers twice, every {seek_s:.0f} s; every {last_s / 60:.0f} min at the end",
            2 * (reunion.SOUGHT + 1),
            seek_s,
        ),
        (f"its line | 1 contact, every {pulse_s:.0f} s", 1, pulse_s),
    ):
        rate = pings * MIN_REQUEST_BYTES / every_s / 1000
        digits = 1 if rate > 1 else 2 if rate > 0.01 else 3
        told = f"{row} | {rate:.{digits}f} | {MAX_ATTEMPTS * rate:.{digits}f} |"
        assert told in page, told


def with_new_homes(page: str) -> str:
    """The page with the modules where its constants are now: of the same package, or else if there is just one."""

    def move(row: re.Match[str]) -> str:
        name, old = row[3], NODE / f"{row[4]}.py"
        defined = re.compile(rf"(?m)^(\w+, )?{name}\b[^=\n]* = ")
        homes = [path for path in NODE.rglob("*.py") if defined.search(path.read_text())]
        near = [path for path in homes if path.parent == old.parent]
        new = near[0] if len(near) == 1 else homes[0] if len(homes) == 1 else old
        return row[0].replace(f"`{row[4]}.py`", f"`{new.relative_to(NODE)}`")

    return NUMBER_ROW.sub(move, page)


def test_the_repair_limits_of_care_are_those_of_the_code() -> None:
    rows = [tuple(map(int, row)) for row in CODE_ROW.findall(CARE.read_text())]
    assert rows
    assert rows == [(k, n, repair_at(k, n), emergency_at(k, n)) for k, n, _, _ in rows]


def test_the_library_page_has_every_public_name() -> None:
    names = re.findall(
        r"(?m)^\.\. auto(?:class|function|exception|data):: (\w+)(?:\(\))?$", (DOCS / "api.md").read_text()
    )
    assert sorted(names) == sorted(shoal.node.__all__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target
            is_on_site = not target.endswith(".md") or (page.parent / target).resolve() in PAGES
            assert is_on_site, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_exist(page: Path) -> None:
    folders = "node|dht|erasure|cli|simulation|tests|benchmarks|examples|docs"
    named = re.findall(rf"`((?:{folders})/[\w./-]+\.\w+)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_terms_of_the_glossary_are_in_order() -> None:
    terms = re.findall(r"(?m)^\*\*([^*]+)\.\*\*", (DOCS / "glossary.md").read_text())
    assert terms == sorted(terms, key=str.lower)


if __name__ == "__main__":
    CARE.write_text(with_new_homes(CARE.read_text()))
