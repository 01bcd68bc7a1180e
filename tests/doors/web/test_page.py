"""The files of the web page: small, whole, and nothing in them that its security policy forbids."""

import hashlib
import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[3] / "doors" / "web" / "static"
MAX_BYTES = 120_000
# package/lit-html.js of the npm package lit-html 3.3.3
LIT_HTML_3_3_3 = "b878e7f95dec8a9b6e9b217faca6b6a11bad82ebc44c0caa77419ed83edd81f2"
TYPES_ALONE = "contract.js"  # tsc reads it, the page does not

MODULES = sorted(STATIC.glob("*.js"))
FORBIDDEN = {
    "an inline style": re.compile(r"\sstyle=|<style"),
    "an inline script": re.compile(r"<script(?![^>]*\ssrc=)|javascript:"),
    "an inline handler": re.compile(r"<[^>]*\son\w+="),
    "HTML from a text": re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|unsafeHTML|createHTML"),
    "code from a text": re.compile(r"\beval\(|new Function\("),
    "another origin": re.compile(r"[\"'`(]https?://(?!www\.w3\.org/)"),
    "a cookie": re.compile(r"document\.cookie|localStorage|indexedDB"),
}


def loaded() -> list[Path]:
    """What a browser loads of the page."""
    kinds = {".html", ".css", ".svg", ".js"}
    return [path for path in STATIC.rglob("*") if path.suffix in kinds and path.name != TYPES_ALONE]


def imports(module: Path) -> list[str]:
    """What a module imports when it runs; types in comments are not among it."""
    return re.findall(r"^import [^;]*?from \"([^\"]+)\";|^import \"([^\"]+)\";", module.read_text(), re.MULTILINE)


def test_the_whole_page_weighs_less_than_120_kb() -> None:
    assert sum(path.stat().st_size for path in loaded()) < MAX_BYTES


def test_lit_html_is_as_its_makers_published_it_and_its_licence_is_there() -> None:
    assert hashlib.sha256((STATIC / "vendor" / "lit-html.js").read_bytes()).hexdigest() == LIT_HTML_3_3_3
    assert "BSD 3-Clause License" in (STATIC / "vendor" / "lit-html.LICENSE").read_text()


@pytest.mark.parametrize("path", [*MODULES, STATIC / "index.html", STATIC / "style.css"], ids=lambda path: path.name)
def test_nothing_needs_a_weaker_policy(path: Path) -> None:
    text = path.read_text()
    assert [what for what, pattern in FORBIDDEN.items() if pattern.search(text)] == []


def test_all_that_is_asked_for_is_there_and_all_that_is_there_is_asked_for() -> None:
    asked = {STATIC / "index.html"}
    asked |= {STATIC / name for name in re.findall(r"(?:src|href)=\"([^#\"]+)\"", (STATIC / "index.html").read_text())}
    for module in MODULES:
        asked |= {(module.parent / name).resolve() for found in imports(module) for name in found if name}
    assert asked == set(loaded())


def test_every_string_is_said_somewhere() -> None:
    strings = (STATIC / "strings.js").read_text()
    code = "".join(module.read_text() for module in MODULES)
    names = re.findall(r"^ {4}(\w+):", strings, re.MULTILINE)
    assert len(names) > 100
    assert [name for name in names if not re.search(rf"\.{name}\b", code)] == []


def test_no_words_stand_outside_the_file_of_strings() -> None:
    """Between two tags of a template there is a value and no text: else nobody could translate the page."""
    texts = [
        (module.name, found)
        for module in MODULES
        if module.name != "strings.js"
        for template in re.findall(r"html`(.*?)`", module.read_text(), re.DOTALL)
        for found in re.findall(r">\s*([A-Za-z]{2}[A-Za-z ]+)\s*<", template)
    ]
    assert texts == []
