"""Which codec is chosen: ISA-L when it is there and gives zfec's bytes, else zfec, and never an error."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from shoal.erasure import Buffer, IsalCodec, ZfecCodec, best_codec, choice, isal
from shoal.erasure.gf256 import interpolation

LIBRARY = "libisal-0a1b2c.so.2.0.32"


def test_isal_is_chosen_here_and_once(isal_library: str) -> None:
    assert best_codec().name == "isa-l"
    assert best_codec() is best_codec()
    assert choice.agrees_with_zfec(IsalCodec(isal_library))


def test_the_library_in_the_wheel_comes_first_and_pyeclib_is_not_imported() -> None:
    code = "import sys; from shoal.erasure import best_codec; print(best_codec().library, 'pyeclib' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    library, imported = told.split()
    assert Path(library).parent.name == "pyeclib.libs"
    assert imported == "False"


def test_without_any_library_it_is_zfec() -> None:
    assert choice.choose_codec([]).name == "zfec"


def test_missing_and_broken_files_are_passed_over(tmp_path: Path, isal_library: str, other_library: str) -> None:
    junk = tmp_path / "libisal.so.2"
    junk.write_bytes(b"\x7fELF" + bytes(1000))
    broken = [str(tmp_path / "missing"), str(tmp_path), str(junk), other_library]
    assert choice.choose_codec(broken).name == "zfec"
    chosen = choice.choose_codec([*broken, isal_library])
    assert isinstance(chosen, IsalCodec)
    assert chosen.library == isal_library


@pytest.mark.parametrize("wrong_share", range(25))
def test_a_library_that_disagrees_about_one_share_is_not_chosen(
    isal_library: str, monkeypatch: pytest.MonkeyPatch, wrong_share: int
) -> None:
    right = interpolation

    def wrong(have: tuple[int, ...], want: tuple[int, ...]) -> bytes:
        matrix = bytearray(right(have, want))
        if wrong_share in want:
            matrix[len(have) * want.index(wrong_share)] ^= 1
        return bytes(matrix)

    monkeypatch.setattr(isal, "interpolation", wrong)
    assert choice.choose_codec([isal_library]).name == "zfec"


def test_a_codec_with_a_single_wrong_bit_is_found_out(isal_library: str) -> None:
    class Flipping(IsalCodec):
        rows = 0

        def _compute(
            self, k: int, n: int, have: tuple[int, ...], blocks: Sequence[Buffer], want: tuple[int, ...]
        ) -> list[bytearray]:
            made = [bytearray(block) for block in super()._compute(k, n, have, blocks, want)]
            if len(want) == self.rows:
                made[-1][-1] ^= 128
            return made

    for rows in (21, *choice.TRIAL_ROWS):
        codec = Flipping(isal_library)
        codec.rows = rows
        assert not choice.agrees_with_zfec(codec)


def installed(folder: Path, library: bytes | None = None, record: int | str | None = None) -> Path:
    """A folder that looks like site-packages with pyeclib in it. `record`: the library's length, as noted."""
    (folder / "pyeclib").mkdir(parents=True)
    (folder / "pyeclib" / "__init__.py").write_text("raise RuntimeError('imported')")
    if library is not None:
        (folder / "pyeclib.libs").mkdir()
        (folder / "pyeclib.libs" / LIBRARY).write_bytes(library)
    if record is not None:
        (folder / "pyeclib-1.8.0.dist-info").mkdir()
        lines = f"pyeclib/__init__.py,sha256=a,31\npyeclib.libs/{LIBRARY},sha256=b_-,{record}\npyeclib/RECORD,,\n"
        (folder / "pyeclib-1.8.0.dist-info" / "RECORD").write_text(lines)
    return folder


def test_the_wheels_library_is_opened_only_at_the_length_that_was_installed(
    tmp_path: Path, isal_library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(isal_library).read_bytes()
    good = installed(tmp_path / "good", whole, len(whole))
    for folder, found in [
        (good, [str(good / "pyeclib.libs" / LIBRARY)]),
        (installed(tmp_path / "cut", whole[:5000], len(whole)), []),
        (installed(tmp_path / "cut late", whole[:-1], len(whole)), []),
        (installed(tmp_path / "empty", b"", len(whole)), []),
        (installed(tmp_path / "unrecorded", whole), []),
        (installed(tmp_path / "without a length", whole, ""), []),
        (installed(tmp_path / "gone", None, len(whole)), []),
        (installed(tmp_path / "without"), []),
        (tmp_path / "nowhere", []),
    ]:
        monkeypatch.setattr(sys, "path", [str(folder)])
        assert list(choice.find_libraries()) == [*found, choice.SYSTEM_LIBRARY]
    monkeypatch.setattr(sys, "path", [str(good)])
    assert choice.choose_codec(choice.find_libraries()).name == "isa-l"
    (tmp_path / "namespace" / "pyeclib").mkdir(parents=True)  # a folder without __init__.py has no origin
    monkeypatch.setattr(sys, "path", [str(tmp_path / "namespace")])
    assert list(choice.find_libraries()) == [choice.SYSTEM_LIBRARY]


def test_zfec_stays_what_everything_is_compared_with() -> None:
    assert choice.agrees_with_zfec(ZfecCodec())
