"""Tokens: exact masks of what the assistant says, places for media, and text that cannot fake a special token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from shardkit.records.marks import escape_marks
from trainer.data.media import Senses, Undecodable, Unfit, load_media
from trainer.data.tokenise import PLACES, Encoded, Speech, train_speech

SENSES = Senses(
    image_size=32, image_latents=2, most_frames=2, mels=80, window_frames=50, audio_latents=3, most_windows=2
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
)


def encode(speech: Speech, item: Any, most: int = 500) -> Encoded:
    return speech.encode(item.sample, load_media(item, SENSES), SENSES, most)


def said_text(speech: Speech, row: Encoded) -> str:
    return str(speech.tokenizer.decode([token for token, said in zip(row.ids, row.said, strict=True) if said]))


def test_mask_is_what_the_chat_template_generates(speech: Speech, item: Callable[..., Any]) -> None:
    turns = [("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "2+2?"), ("assistant", "four\n")]
    wanted = speech.tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    row = encode(speech, item(*turns))
    assert list(row.ids) == list(wanted["input_ids"])
    assert [int(said) for said in row.said] == list(wanted["assistant_masks"])
    assert said_text(speech, row) == "2<|end|>four\n<|end|>"


def test_mask_is_exact_with_a_foreign_chat_template(item: Callable[..., Any]) -> None:
    base = train_speech(["hello world"], 300).tokenizer
    foreign = PreTrainedTokenizerFast(tokenizer_object=base._tokenizer, pad_token="<|pad|>", chat_template=CHATML)
    foreign.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    speech = Speech(foreign)
    row = encode(speech, item(("user", "hello"), ("assistant", "world"), ("user", "more"), ("assistant", "yes")))
    assert said_text(speech, row) == "world<|im_end|>yes<|im_end|>"


@settings(max_examples=40, deadline=None)
@given(
    text=st.lists(
        st.sampled_from([*"ab <|>\\/\n", "<|image|>", "<|end|>", "<|assistant|>", "<|pad|>"]), max_size=12
    ).map("".join)
)
def test_no_text_becomes_a_special_token_and_every_text_comes_back(text: str) -> None:
    speech = SPEECH
    ids = speech.encode_text(text)
    assert not speech.special_ids & set(ids)
    assert speech.tokenizer.decode(ids) == text


SPEECH = train_speech(["a b <| |> <|image|> <|end|>"], 300)


def test_escaped_marks_in_a_message_stay_text(speech: Speech, item: Callable[..., Any]) -> None:
    row = encode(speech, item(("user", escape_marks("type <|image|><|end|>")), ("assistant", "ok")))
    assert not set(row.ids) & set(speech.places.values())
    assert "type <|image|><|end|>" in speech.tokenizer.decode(row.ids)
    assert row.ids.count(speech.tokenizer.convert_tokens_to_ids("<|end|>")) == 2  # the frame's own, one a turn


def test_media_stand_at_their_marks_in_order(speech: Speech, item: Callable[..., Any]) -> None:
    both = item(("user", "A<|audio|>B<|image|>C<|image|>"), ("assistant", "ok"), images=2, sounds=1)
    row = encode(speech, both)
    seen, heard = speech.places["image"], speech.places["audio"]
    assert [t for t in row.ids if t in (seen, heard)] == [heard] * 3 + [seen] * 4
    assert [int(image[0].max()) for image in row.images] == [10, 50]
    assert len(row.windows) == 1


def test_media_without_marks_come_first(speech: Speech, item: Callable[..., Any]) -> None:
    row = encode(speech, item(("user", "Q"), ("assistant", "A"), images=1, sounds=1))
    seen, heard = speech.places["image"], speech.places["audio"]
    assert list(row.ids[1:6]) == [seen] * 2 + [heard] * 3


def test_video_is_its_keyframes_then_its_sound(speech: Speech, item: Callable[..., Any]) -> None:
    row = encode(speech, item(("user", "<|video|>Q"), ("assistant", "A"), frames=5, track=True))
    seen, heard = speech.places["video"], speech.places["audio"]
    assert list(row.ids[1:11]) == [seen] * 4 + [heard] * 6  # 2 of 5 frames, 0.7 s are 2 windows of 0.5 s
    assert [round(int(image[1].max()) / 40) for image in row.images] == [0, 4]  # the first and the last
    assert row.kind == "video"


@pytest.mark.parametrize(
    ("turns", "media", "reason"),
    [
        ((), {"images": 1}, "unlabelled"),
        ((("user", "only a question"),), {}, "unlabelled"),
        ((("user", "<|image|><|image|>"), ("assistant", "A")), {"images": 1}, "marks"),
        ((("user", "<|image|>"), ("assistant", "A")), {"images": 1, "sounds": 1}, "marks"),
        ((("user", "x" * 900), ("assistant", "A")), {}, "too-long"),
        ((("user", "Q"), ("assistant", "y" * 900 + "<|image|>")), {"images": 1}, "too-long"),
    ],
)
def test_samples_without_anything_to_learn_are_unfit(
    speech: Speech, item: Callable[..., Any], turns: tuple[Any, ...], media: dict[str, int], reason: str
) -> None:
    with pytest.raises(Unfit, match=reason):
        encode(speech, item(*turns, **media))


def test_long_answers_are_cut_and_the_cut_is_counted(speech: Speech, item: Callable[..., Any]) -> None:
    row = encode(speech, item(("user", "Q"), ("assistant", "z" * 900)), most=64)
    assert len(row.ids) == len(row.said) == 64
    assert row.cut_tokens > 0


def test_deaf_and_blind_models_leave_out_what_they_cannot_take(item: Callable[..., Any]) -> None:
    with pytest.raises(Unfit, match="blind"):
        load_media(item(("assistant", "A"), images=1), Senses(mels=80, window_frames=50, audio_latents=1))
    with pytest.raises(Unfit, match="deaf"):
        load_media(item(("assistant", "A"), sounds=1), Senses(image_size=32, image_latents=1))


def test_a_damaged_medium_names_its_sample(item: Callable[..., Any]) -> None:
    broken = item(("assistant", "A"), images=1, key="feed")
    broken.members["image0.png"] = broken.members["image0.png"][:50]
    with pytest.raises(Undecodable, match="sample feed: a medium does not decode"):
        load_media(broken, SENSES)


def test_training_and_saving_a_tokeniser_repeats_exactly(tmp_path: Any, speech: Speech) -> None:
    from trainer.data.tokenise import load_speech

    texts = ["alpha beta", "gamma\ndelta", "1234"]
    first, second = train_speech(texts, 320), train_speech(texts, 320)
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    speech.save(tmp_path)
    loaded = load_speech(str(tmp_path))
    assert loaded.vocabulary == speech.vocabulary
    assert (
        loaded.places
        == speech.places
        == {name: speech.tokenizer.convert_tokens_to_ids(PLACES[name]) for name in PLACES}
    )
    assert loaded.encode_text("What colour?\n é") == speech.encode_text("What colour?\n é")
