"""Records made of members that others named: which shape is taken, what is refused."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import Refused
from shardkit.read.shapes import Describer, sample_of
from shardkit.records.sample import Sample, encode_sample
from tests.read.foreign import flac_bytes, png_bytes
from tests.store.made import media_sample, text_sample


def as_json(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def turns(sample: Sample) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in sample.messages]


def made(**members: bytes) -> Sample:
    return sample_of("k/1", "web", members)


PNG, FLAC = png_bytes(size=(40, 30)), flac_bytes(0.5)


def test_image_with_a_text_is_a_caption() -> None:
    for text in ({"txt": b"a dog"}, {"caption": b"a dog"}, {"json": as_json(caption="a dog")}):
        sample = sample_of("k/1", "web", {"png": PNG, **text})
        assert turns(sample) == [("user", "<|image|>\nDescribe this image."), ("assistant", "a dog")]
        (image,) = sample.modalities.image
        assert (image.member, image.width, image.height) == ("png", 40, 30)
        assert (sample.source, sample.category, sample.id) == ("web", "caption", "web/k/1")


def test_sound_with_a_text_is_a_transcript() -> None:
    sample = made(flac=FLAC, txt=b"hello")
    assert turns(sample) == [("user", "<|audio|>"), ("assistant", "hello")]
    (audio,) = sample.modalities.audio
    assert (audio.member, audio.duration_seconds, audio.sample_rate) == ("flac", 0.5, 16_000)


def test_several_images_keep_their_order_and_an_upright_size() -> None:
    from PIL import Image

    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(out, "JPEG", exif=exif)
    sample = sample_of("k", "web", {"left.jpg": out.getvalue(), "right.png": PNG, "txt": b"two"})
    assert [(image.member, image.width) for image in sample.modalities.image] == [("left.jpg", 30), ("right.png", 40)]
    assert turns(sample)[0][1].count("<|image|>") == 2


ASKED = [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, ASKED),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, ASKED),
        ({"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, ASKED),
        ({"question": "q", "answer": "a", "id": 3}, ASKED),
        ({"prompt": "q", "completion": "a"}, ASKED),
        ({"prompt": "q", "response": "a"}, ASKED),
        ({"instruction": "q", "input": "", "output": "a"}, ASKED),
        ({"instruction": "q", "input": "x", "output": "a"}, [("user", "q\n\nx"), ("assistant", "a")]),
        ({"text": "alone"}, [("assistant", "alone")]),
        (
            {"system": "be short", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            [("system", "be short"), *ASKED],
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]},
                          {"role": "assistant", "content": "a"}]},
            ASKED,
        ),
    ],
)  # fmt: skip
def test_conversations_of_the_usual_shapes(fields: dict[str, Any], wanted: list[tuple[str, str]]) -> None:
    assert turns(made(json=as_json(**fields))) == wanted


def test_places_of_images_in_a_conversation_are_taken() -> None:
    told = [{"from": "human", "value": "look: <image> what?"}, {"from": "gpt", "value": "a dog"}]
    assert turns(made(jpg=PNG, json=as_json(conversations=told)))[0] == ("user", "look: <|image|> what?")
    parts = [{"type": "image"}, {"type": "text", "text": " what?"}]
    told = [{"role": "user", "content": parts}, {"role": "assistant", "content": "a dog"}]
    assert turns(made(jpg=PNG, json=as_json(messages=told)))[0] == ("user", "<|image|> what?")
    told = [{"from": "human", "value": "the text <image> stands for nothing"}, {"from": "gpt", "value": "yes"}]
    assert turns(made(json=as_json(conversations=told)))[0][1] == "the text <image> stands for nothing"


def test_marks_in_texts_of_others_are_text() -> None:
    sample = made(png=PNG, txt=b"it reads <|image|>")
    assert turns(sample)[1] == ("assistant", "it reads <|\\image|>")


def test_text_and_media_alone() -> None:
    assert turns(made(txt="wörter".encode())) == [("assistant", "wörter")]
    alone = made(png=PNG)
    assert (turns(alone), len(alone.modalities.image), alone.category) == ([], 1, "unlabelled")


def test_a_record_of_ours_stays_what_it_is() -> None:
    for prepared in (text_sample(1), media_sample(1)):
        members = {"json": encode_sample(prepared.sample), **{one.name: one.data for one in prepared.members}}
        assert sample_of("k", "web", members) == prepared.sample
    lacking = {"json": encode_sample(media_sample(1).sample), "image0.png": PNG}
    assert sample_of("k", "web", lacking).category == "messages"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"cls": b"3"}, "schema"),
        ({"pyd": b"\x80\x04."}, "schema"),
        ({"txt": b"\xff\xfe"}, "not-utf8"),
        ({"txt": b"  \n"}, "empty-text"),
        ({"txt": b"a\0b"}, "not-utf8"),
        ({"json": b"{" * 100_000}, "not-json"),
        ({"json": b"[1]"}, "schema"),
        ({"json": b'{"messages": [{"role": "user", "content": "no answer"}]}'}, "bad-role"),
        ({"json": b'{"messages": [3]}'}, "missing-field"),
        ({"jpg": b"<html>", "txt": b"x"}, "unknown-media"),
        ({"jpg": PNG[:20], "txt": b"x"}, "image-damaged"),
        ({"wav": b"RIFF\0\0\0\0WAVE", "txt": b"x"}, "audio-damaged"),
        ({"mp4": b"\0\0\0\x18ftypmp42" + bytes(100), "txt": b"x"}, "video-damaged"),
    ],
)
def test_what_is_no_record_is_refused_and_yet_described(members: dict[str, bytes], reason: str) -> None:
    with pytest.raises(Refused) as raised:
        sample_of("k", "web", members)
    assert raised.value.reason == reason
    facts = Describer("web")("k", dict(members))
    assert (facts.source, facts.text_characters) == ("web", 0)


def test_long_members_are_counted_by_their_names() -> None:
    facts = Describer("web")("k", {"mp4": None, "txt": b"x"})
    assert (facts.modalities, facts.images) == ("video", 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "conversations", "role", "from", "content", "value", "text", "type", "system"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON, st.booleans())
def test_no_json_breaks_the_making_of_records(value: Any, image: bool) -> None:
    members: dict[str, bytes | None] = {"json": json.dumps(value).encode(), **({"png": PNG} if image else {})}
    assert Describer("web")("k", members).source == "web"
