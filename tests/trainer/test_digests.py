"""A folder's digests find every damage of its files and of themselves, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import blake3
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.digests import DIGESTS, ExportDamaged, check_digests, read_digests, write_digests

FILES = {"a.safetensors": b"weights" * 9, "omni/config.json": b"{}", "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    write_digests(tmp_path)
    return tmp_path


def test_every_file_stands_in_it_with_its_blake3_and_size(folder: Path) -> None:
    check_digests(folder)
    found = msgspec.json.decode((folder / DIGESTS).read_bytes())["files"]
    assert found == {
        name: {"blake3": blake3.blake3(data).hexdigest(), "size_bytes": len(data)} for name, data in FILES.items()
    }


def cut(data: bytes) -> bytes:
    return data[:-1]


def flip(data: bytes) -> bytes:
    return data[:1] + bytes([data[1] ^ 1]) + data[2:]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("a.safetensors", flip, "a.safetensors is altered"),
        ("a.safetensors", cut, "a.safetensors has 62 bytes, digests.json says 63; copy the export again"),
        ("omni/config.json", flip, "omni/config.json is altered"),
        ("empty", lambda data: b"x", "empty has 1 bytes, digests.json says 0"),
        (DIGESTS, lambda data: b"", "digests.json is truncated or altered"),
    ],
)
def test_a_damaged_file_is_named(name: str, change: Callable[[bytes], bytes], message: str, folder: Path) -> None:
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(ExportDamaged) as error:
        check_digests(folder)
    assert message in str(error.value) and error.value.exit_code == 4


def test_a_missing_file_is_named_and_one_that_nobody_wrote_is_not_asked_for(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    check_digests(folder)
    (folder / "a.safetensors").unlink()
    with pytest.raises(ExportDamaged, match=r"a.safetensors is missing, digests.json says 63"):
        check_digests(folder)
    check_digests(folder, only="omni/*")
    check_digests(folder, but="*.safetensors")


def test_a_folder_without_one_is_taken_as_it_is(tmp_path: Path) -> None:
    check_digests(tmp_path)
    check_digests(tmp_path / "absent" / "org")
    assert read_digests(tmp_path) is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_or_cut_of_the_digests_themselves_is_noticed(data: st.DataObject, folder: Path) -> None:
    write_digests_anew(folder)
    path = folder / DIGESTS
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 2))
    if data.draw(st.booleans()):
        damaged = whole[:at]
    else:
        damaged = whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :]
    path.write_bytes(damaged)
    try:
        check_digests(folder)
    except ExportDamaged:
        return
    assert msgspec.json.decode(damaged) == msgspec.json.decode(whole)  # a space that became another space


def write_digests_anew(folder: Path) -> None:
    (folder / DIGESTS).unlink(missing_ok=True)
    write_digests(folder)


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "omni/../../other"])
def test_names_outside_of_the_folder_are_refused(name: str, folder: Path) -> None:
    text = (folder / DIGESTS).read_text().replace("omni/config.json", name)
    (folder / DIGESTS).write_text(text)
    with pytest.raises(ExportDamaged, match="outside of it"):
        check_digests(folder)
