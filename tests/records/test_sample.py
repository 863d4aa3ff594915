"""KEY.json: canonical encoding, strict decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkit.errors import Refused
from shardkit.records.sample import (
    Audio,
    Image,
    Keyframe,
    Message,
    Modalities,
    Sample,
    Video,
    decode_sample,
    encode_sample,
    member_names,
    modality_set,
)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def sample(**fields: object) -> Sample:
    return Sample(**{"id": "a", "domain": "d", "category": "c", "source": "s", **fields})  # type: ignore[arg-type]


@given(content=texts, licence=texts, provenance=st.dictionaries(texts, texts, max_size=3))
def test_sample_survives_the_round_trip(content: str, licence: str, provenance: dict[str, str]) -> None:
    before = sample(messages=(Message(role="user", content=content),), licence=licence, provenance=provenance)
    encoded = encode_sample(before)
    assert decode_sample(encoded) == before
    assert encode_sample(decode_sample(encoded)) == encoded


def test_order_of_provenance_does_not_change_the_bytes() -> None:
    assert encode_sample(sample(provenance={"b": "1", "a": "2"})) == encode_sample(
        sample(provenance={"a": "2", "b": "1"})
    )


def test_empty_parts_are_left_out() -> None:
    assert encode_sample(sample()) == b'{"id":"a","domain":"d","category":"c","source":"s"}'


@pytest.mark.parametrize("content", ["a\ud800b", "nul\0inside"])
def test_text_without_canonical_form_is_refused(content: str) -> None:
    with pytest.raises(Refused, match="not-utf8"):
        encode_sample(sample(messages=(Message(role="user", content=content),)))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_number_that_is_not_finite_is_refused(number: float) -> None:
    audio = Audio(member="audio0.flac", type="speech", duration_seconds=number, sample_rate=16000)
    with pytest.raises(Refused, match="not-finite"):
        encode_sample(sample(modalities=Modalities(audio=(audio,))))


@pytest.mark.parametrize(
    "data",
    [
        b'{"id":"a","domain":"d","category":"c","source":"s","extra":1}',
        b'{"id":1,"domain":"d","category":"c","source":"s"}',
        b'{"id":"a","domain":"d","category":"c"}',
        b'{"id":"a","domain":"d","category":"c","source":"s","messages":[{"role":"human","content":""}]}',
        b'{"id":"\xff","domain":"d","category":"c","source":"s"}',
        b"[" * 1_000_000,
        b'{"id":NaN}',
        b"",
    ],
)
def test_wrong_json_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="schema"):
        decode_sample(data)


def test_members_are_named_in_stored_order() -> None:
    video = Video(
        name="video0", type="footage", duration_seconds=1.0, fps=25.0, width=8, height=8,
        keyframes=(Keyframe(member="video0.kf00000.jpg", pts_seconds=0.0),), audio="video0.audio.flac",
    )  # fmt: skip
    image = Image(member="image0.png", type="photo", width=1, height=1)
    both = sample(modalities=Modalities(image=(image,), video=(video,)))
    assert member_names(both) == ("image0.png", "video0.kf00000.jpg", "video0.audio.flac")
    assert modality_set(both) == ("image", "video")
