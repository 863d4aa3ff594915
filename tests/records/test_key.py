"""The key of a sample: by content alone, as FORMAT.md says."""

from __future__ import annotations

import blake3
import msgspec
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import Refused
from shardkit.records.key import key_of_record, member_digest, sample_key
from shardkit.records.row import Member
from shardkit.records.sample import Audio, Image, Message, Modalities, Preference, Sample, encode_sample

PICTURE = Image(member="image0.png", type="photo", width=2, height=3)
SPEECH = Audio(member="audio0.flac", type="speech", duration_seconds=1.5, sample_rate=16000)
SAMPLE = Sample(
    id="a",
    messages=(Message(role="user", content="<|image|><|audio|>\nüber"), Message(role="assistant", content="x")),
    domain="d",
    category="c",
    source="s",
    modalities=Modalities(image=(PICTURE,), audio=(SPEECH,)),
)
MEMBERS = (Member(name="image0.png", data=bytes(range(60))), Member(name="audio0.flac", data=b"sound"))


def changed(**fields: object) -> Sample:
    return msgspec.structs.replace(SAMPLE, **fields)  # type: ignore[arg-type]


def test_key_is_what_the_format_says() -> None:
    identity = (
        '{"messages":[{"role":"user","content":"<|image|><|audio|>\\nüber"},{"role":"assistant","content":"x"}],'
        '"modalities":{"image":[{"member":"image0.png","type":"photo","width":2,"height":3}],'
        '"audio":[{"member":"audio0.flac","type":"speech","duration_seconds":1.5,"sample_rate":16000}]}}'
    )
    hashed = identity.encode() + b"\0"
    for member in MEMBERS:
        hashed += member.name.encode() + b"\0" + blake3.blake3(member.data).digest()[:16]
    assert sample_key(SAMPLE, MEMBERS) == xxhash.xxh3_128_hexdigest(hashed)


TEXTS = st.text(max_size=20) | st.sampled_from(['","domain":', ',"messages":', "\\", '"', ',"', '\\","domain":"'])


@given(
    TEXTS, st.lists(TEXTS, max_size=3), st.booleans(), st.none() | st.builds(Preference, chosen=TEXTS, rejected=TEXTS)
)
@settings(max_examples=200)
def test_key_cut_out_of_the_record_is_the_same(
    name: str, texts: list[str], pictured: bool, preference: Preference | None
) -> None:
    messages = tuple(Message(role="user", content=text) for text in texts)
    modalities = Modalities(image=(PICTURE,)) if pictured else Modalities()
    sample = Sample(
        id=name, messages=messages, domain=name, category=name, source="s", modalities=modalities,
        preference=preference, provenance={"messages": name, "domain": name},
    )  # fmt: skip
    members = MEMBERS[:1] if pictured else ()
    digests = [(member.name, member_digest(member.data)) for member in members]
    try:
        record = encode_sample(sample)
    except Refused:
        return  # lone surrogates and NUL
    assert key_of_record(sample, record, digests) == sample_key(sample, members)


def test_key_has_neither_dots_nor_slashes() -> None:
    key = sample_key(SAMPLE, MEMBERS)
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


@given(st.text(max_size=9), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
@settings(max_examples=30)
def test_key_does_not_depend_on_where_a_sample_came_from(text: str, provenance: dict[str, str]) -> None:
    other = changed(
        id=text, source=text, domain=text, category=text, licence=text, repetition_style=text, provenance=provenance
    )
    assert sample_key(other, MEMBERS) == sample_key(SAMPLE, MEMBERS)


def test_key_changes_with_every_byte_of_every_member() -> None:
    keys = {sample_key(SAMPLE, MEMBERS)}
    for at, member in enumerate(MEMBERS):
        for byte in range(len(member.data)):
            data = bytearray(member.data)
            data[byte] ^= 1
            members = [*MEMBERS]
            members[at] = Member(name=member.name, data=bytes(data))
            keys.add(sample_key(SAMPLE, members))
    assert len(keys) == 1 + sum(len(member.data) for member in MEMBERS)


@pytest.mark.parametrize(
    "other",
    [
        changed(messages=SAMPLE.messages[:1]),
        changed(messages=(*SAMPLE.messages, Message(role="user", content="x"))),
        changed(messages=SAMPLE.messages[::-1]),
        changed(preference=Preference(chosen="x", rejected="y")),
        changed(preference=Preference(chosen="y", rejected="x")),
        changed(modalities=Modalities(image=(PICTURE,), audio=(msgspec.structs.replace(SPEECH, language="en"),))),
    ],
)
def test_key_changes_with_the_content(other: Sample) -> None:
    assert sample_key(other, MEMBERS) != sample_key(SAMPLE, MEMBERS)


def test_key_refuses_text_without_utf8() -> None:
    with pytest.raises(Refused, match="not-utf8"):
        sample_key(changed(messages=(Message(role="user", content="\ud800"),), modalities=Modalities()), ())
