"""Plain tars that nobody made for a tool: cut, with odd keys, hostile.

Here: making them with the standard library or byte by byte, and the trials.
Elsewhere: damage to what tools wrote themselves (damage.py), verdicts (verdict.py).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tools.conformance import material
from tools.conformance.damage import Bench, Trial, member_ends
from tools.conformance.process import Answer, Tool
from tools.conformance.verdict import Verdict, judge_sequence

Members = Sequence[tuple[str, bytes]]
SECRET = b"what a link of a hostile tar points at"


class Hostile(NamedTuple):
    """A tar that no reader should take as it is: its bytes, and the good samples in it."""

    name: str
    data: bytes


def cut_plain_tars(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """A tar of 200 members cut at each member's end, then indexed or read for the first time."""
    data = tar_of(_pairs(range(100)))
    whole = bench.folder / "whole.tar"
    whole.write_bytes(data)
    wanted = tool.ask("read_tar", place=str(whole)).seen
    for end in bench.spread(member_ends(whole)):
        answer = read_tar(tool, bench, data[:end])
        yield _judge(answer, wanted), answer.error


def cut_plain_tars_anywhere(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """A small tar cut at every byte up to its last member's end."""
    data = tar_of(_pairs(range(3)))
    whole = bench.folder / "whole.tar"
    whole.write_bytes(data)
    wanted = tool.ask("read_tar", place=str(whole)).seen
    for length in bench.spread(range(1, member_ends(whole)[-1])):
        answer = read_tar(tool, bench, data[:length])
        yield _judge(answer, wanted), answer.error


def odd_keys(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """Dots in keys and in folders, several extensions: every member's bytes come out under its name."""
    for members in DOTTED:
        answer = read_tar(tool, bench, tar_of(members))
        found = sorted(_lower(field) for sample in answer.seen for field in sample)
        yield _judge(answer._replace(seen=found), sorted(map(_lower, _fields(members)))), answer.error


def duplicate_keys(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """The same member twice, a sample twice, a sample's members apart from each other."""
    for members in DUPLICATES:
        answer = read_tar(tool, bench, tar_of(members))
        whole = {tuple(_fields(_pairs([number]))) for number in range(3)}
        wrong = [sample for sample in answer.seen if tuple(sample) not in whole]
        if answer.died or wrong:
            yield Verdict(answer.died or "silent-wrong", len(wrong)), answer.error
        elif answer.error:
            yield Verdict("refused"), answer.error
        else:
            seen = [tuple(sample) for sample in answer.seen]
            yield judge_sequence(sorted(seen), sorted(whole)), answer.error


def hostile_tars(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """Links, devices, sizes and names that lie: refused, or passed over; never followed and never handed out."""
    (bench.folder / "secret").write_bytes(SECRET)
    good = {tuple(_fields(_pairs([number]))) for number in range(2)}
    for hostile in hostile_corpus(bench.folder):
        answer = read_tar(tool, bench, hostile.data)
        wrong = [sample for sample in answer.seen if tuple(sample) not in good]
        said = f"{hostile.name}: {answer.error or answer.seen}"[:200]
        if answer.died or wrong:
            yield Verdict(answer.died or "silent-wrong", len(wrong)), said
        else:
            lost = len(good) - len({tuple(sample) for sample in answer.seen})
            yield (Verdict("refused") if answer.error or not lost else Verdict("lost", lost)), said


def read_tar(tool: Tool, bench: Bench, data: bytes) -> Answer:
    """Have the tool read these bytes as a tar that it never saw."""
    place = bench.folder / "tars" / f"{material.digest_of({'': data})}.tar"
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(data)
    answer = tool.ask("read_tar", place=str(place))
    place.unlink()
    return answer


def tar_of(members: Members) -> bytes:
    """A plain tar by the standard library."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return _ended(buffer.getvalue())


def hostile_corpus(folder: Path) -> list[Hostile]:
    """Two good samples, and one member between them that is hostile; each in its own way."""
    first, second = tar_of(_pairs([0]))[:-1024], tar_of(_pairs([1]))
    made = {name: make(folder) for name, make in HOSTILE.items()}
    corpus = [Hostile(name, first + middle + second) for name, middle in made.items()]
    corpus.append(Hostile("data behind the end", first + second + _member(_info("evil.txt"), b"behind the end")))
    corpus.append(Hostile("cut in the last padding", (first + second)[: -1024 - 100]))
    return corpus


def _info(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def _member(info: tarfile.TarInfo, data: bytes = b"") -> bytes:
    if data:
        info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def _patched(at: int, value: bytes, data: bytes = b"x" * 20) -> bytes:
    """A member `evil.txt` with some bytes of its header changed and the checksum right again."""
    member = bytearray(_member(_info("evil.txt"), data))
    member[at : at + len(value)] = value
    member[148:156] = b" " * 8
    member[148:156] = b"%06o\0 " % sum(member[:512])
    return bytes(member)


def _pax(records: dict[str, str], count: int = 1) -> bytes:
    body = b"".join(_record(key, value) for key, value in records.items())
    header = _member(_info("PaxHeader", type=tarfile.XHDTYPE), body)
    return header * count + _member(_info("evil.txt"), b"evil" * 5)


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    size = len(rest)
    while len(str(size)) + len(rest) != size:
        size = len(str(size)) + len(rest)
    return str(size).encode() + rest


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "symbolic link": lambda folder: _member(
        _info("evil.txt", type=tarfile.SYMTYPE, linkname=str(folder / "secret"))
    ),
    "hard link": lambda folder: _member(_info("evil.txt", type=tarfile.LNKTYPE, linkname="00000000.txt")),
    "hard link out of the tar": lambda folder: _member(
        _info("evil.txt", type=tarfile.LNKTYPE, linkname=str(folder / "secret"))
    ),
    "character device": lambda folder: _member(_info("evil.txt", type=tarfile.CHRTYPE, devmajor=1, devminor=5)),
    "fifo": lambda folder: _member(_info("evil.txt", type=tarfile.FIFOTYPE)),
    "climbing name": lambda folder: _member(_info("../evil.txt"), b"evil"),
    "absolute name": lambda folder: _member(_info("/etc/evil.txt"), b"evil"),
    "size that is no number": lambda folder: _patched(124, b"9zz"),
    "negative size": lambda folder: _patched(124, b"\xff" * 11 + b"\xfb"),
    "size of a terabyte": lambda folder: _patched(124, b"\x80" + bytes(4) + (1 << 40).to_bytes(7, "big")),
    "wrong checksum": lambda folder: b"evil.txt" + _member(_info("evil.txt"), b"evil")[8:148] + b"0000001\0"
    + _member(_info("evil.txt"), b"evil")[156:],
    "PAX size": lambda folder: _pax({"size": "1000000000000"}),
    "PAX sparse file of a terabyte": lambda folder: _pax(
        {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(1 << 40), "GNU.sparse.map": "0,20"}
    ),
    "3,000 chained PAX headers": lambda folder: _pax({"comment": "x"}, count=3000),
    "PAX record of a wrong length": lambda folder: _pax({"path": "evil.txt"}).replace(b"17 path", b"99 path"),
}  # fmt: skip


def _ended(data: bytes) -> bytes:
    """A tar with exactly its two zero blocks, without tarfile's padding to 10 KiB."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        end = max(member.offset_data + member.size + -member.size % 512 for member in tar)
    return data[:end] + bytes(1024)


def _pairs(numbers: Sequence[int]) -> list[tuple[str, bytes]]:
    return [(f"{n:08d}.{name}", data) for n in numbers for name, data in material.fields_of(n).items()]


def _fields(members: Members) -> list[str]:
    return sorted(f"{name}={material.digest_of({'': data})}" for name, data in members)


def _lower(field: str) -> str:
    """Webdataset and its followers give extensions in lower case."""
    name, _, digest = field.rpartition("=")
    return f"{name.lower()}={digest}"


def _judge(answer: Answer, wanted: Sequence[Any]) -> Verdict:
    if answer.died:
        return Verdict(answer.died)
    return judge_sequence(answer.seen, list(wanted), bool(answer.error))


def _texts(*names: str) -> list[tuple[str, bytes]]:
    return [(name, f"content of {name}".encode()) for name in names]


DOTTED = (
    _texts("a.b.txt", "a.c.txt", "d.e.txt"),
    _texts("one.v1.0.txt", "one.v1.0.json", "two.v1.0.txt", "two.v1.0.json"),
    _texts("folder.d/a.txt", "folder.d/b.txt"),
    _texts("x/1.txt", "y/1.txt"),
    _texts("a.TXT", "b.TXT"),
    _texts("a.seg.0.txt", "a.seg.1.txt", "b.seg.0.txt", "b.seg.1.txt"),
)
_A, _B, _C = (_pairs([number]) for number in range(3))
DUPLICATES = (
    [*_A, *_B, _B[0], *_C],
    [*_A, _A[0], *_B, *_C],
    [*_A, *_B, *_C, *_A],
    [_A[0], _B[0], _A[1], _B[1], *_C],
    [_A[0], *_B, _A[1], *_C],
)
