"""Masks under chat templates as models bring them: with generation blocks and without, with tools, with traps."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from shardkit import SpecError
from tests.trainer.answers import TEXTS, conversation, teaching
from trainer.data.media import Senses, Unfit
from trainer.data.tokenise import Encoded, Speech, train_speech

CALL = '<tool_call>\n{"name": "sky", "arguments": {"at": "noon"}}\n</tool_call>'
TURNS = (
    ("system", "Be brief."), ("user", "the sky?"), ("assistant", CALL), ("tool", "blue"), ("assistant", "It is blue."),
)  # fmt: skip
PLAIN = TURNS[1:3] + TURNS[4:]

CHATML_TOOLS = (
    "{%- for message in messages %}"
    "{%- if message.role == 'tool' %}"
    "{%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}"
    "{{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
CHATML_BLOCKS = (
    "{%- for message in messages %}{%- if message.role == 'assistant' %}"
    "{{- '<|im_start|>assistant\\n' }}{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}"
    "{{- '\\n' }}{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}"
)
NEWLINE_BLOCKS = CHATML_BLOCKS.replace(
    "<|im_end|>' }}{% endgeneration %}{{- '\\n' }}", "<|im_end|>\\n' }}{% endgeneration %}"
)
LAST_ONLY = CHATML_BLOCKS.replace("{%- if message.role == 'assistant' %}", "{%- if loop.last %}")
EVERYTHING = "{% generation %}" + CHATML_TOOLS + "{% endgeneration %}"
EMPTY_BLOCK = CHATML_TOOLS + "{% generation %}{% endgeneration %}"
HEADERS = (
    "{{ bos_token }}{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|sep|>\\n\\n' "
    "+ message['content'] | trim + '<|im_end|>' }}{% endfor %}"
)
INST = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + "
    "' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)


def with_template(template: str) -> Speech:
    base = train_speech(TEXTS, 320).tokenizer
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=base._tokenizer, pad_token="<|pad|>", bos_token="<s>", eos_token="<|im_end|>",
        chat_template=template,
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|sep|>"]})
    tokenizer.add_tokens(["<tool_call>", "</tool_call>"])
    return Speech(tokenizer)


def encode(speech: Speech, turns: Sequence[tuple[str, str]]) -> Encoded:
    return speech.encode(conversation(*turns), (), Senses(), 1000)


def said(speech: Speech, row: Encoded) -> str:
    return str(speech.tokenizer.decode([token for token, mine in zip(row.ids, row.said, strict=True) if mine]))


@pytest.mark.parametrize(
    ("template", "turns", "wanted"),
    [
        (CHATML_TOOLS, TURNS, f"{CALL}<|im_end|>It is blue.<|im_end|>"),
        (CHATML_BLOCKS, TURNS, f"{CALL}<|im_end|>It is blue.<|im_end|>"),
        (NEWLINE_BLOCKS, TURNS, f"{CALL}<|im_end|>\nIt is blue.<|im_end|>\n"),
        (HEADERS, TURNS, f"{CALL}<|im_end|>It is blue.<|im_end|>"),
        (LAST_ONLY, TURNS, "It is blue.<|im_end|>"),
        (INST, (("user", "the sky?"), ("assistant", "blue")), "blue<|im_end|>"),
    ],
)
def test_calls_and_answers_carry_loss_and_results_do_not(
    template: str, turns: Sequence[tuple[str, str]], wanted: str
) -> None:
    speech = with_template(template)
    row = encode(speech, turns)
    assert said(speech, row) == wanted
    whole = speech.tokenizer.decode(list(row.ids))
    assert whole == speech.tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns], tokenize=False
    )


def test_the_mask_is_that_of_transformers_where_the_template_has_blocks() -> None:
    for template in (CHATML_BLOCKS, NEWLINE_BLOCKS, LAST_ONLY):
        speech = with_template(template)
        turns = [("user", "sky"), ("assistant", "blue"), ("user", "red"), ("assistant", "green")]
        wanted = speech.tokenizer.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            return_dict=True, return_assistant_tokens_mask=True,
        )  # fmt: skip
        row = encode(speech, turns)
        assert list(row.ids) == list(wanted["input_ids"])
        assert [int(mine) for mine in row.said] == list(wanted["assistant_masks"])


def test_a_template_without_blocks_has_a_mask_where_transformers_gives_zeros() -> None:
    speech = with_template(CHATML_TOOLS)
    turns = [{"role": "user", "content": "sky"}, {"role": "assistant", "content": "blue"}]
    masks = speech.tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    assert not any(masks["assistant_masks"])
    assert said(speech, encode(speech, (("user", "sky"), ("assistant", "blue")))) == "blue<|im_end|>"


@pytest.mark.parametrize("template", [EMPTY_BLOCK, EVERYTHING])
def test_blocks_around_nothing_of_the_assistant_are_an_error_with_the_remedy(template: str) -> None:
    with pytest.raises(SpecError, match=r"no token would carry loss. Put {% generation %}.*take the blocks out"):
        encode(with_template(template), PLAIN[:2])


def test_a_template_that_cannot_take_a_role_leaves_the_sample_out() -> None:
    with pytest.raises(Unfit, match="only user and assistant"):
        encode(with_template(INST), TURNS)
    with pytest.raises(Unfit, match="leaves out or moves messages"):
        encode(with_template(CHATML_TOOLS.replace("+ message.content +", "+ 'no result' +", 1)), TURNS)


def test_a_template_that_tells_the_date_gives_the_same_tokens_on_any_day() -> None:
    speech = with_template("{{ strftime_now('%Y-%m-%d') }}" + CHATML_TOOLS)
    row = encode(speech, PLAIN[:2])
    assert speech.tokenizer.decode(list(row.ids)).startswith("2024-07-26<|im_start|>user")


def test_what_ends_an_answer_is_a_special_token() -> None:
    for template in (CHATML_TOOLS, CHATML_BLOCKS, NEWLINE_BLOCKS, HEADERS):
        speech = with_template(template)
        assert speech.end_ids == {speech.tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_all_text_of_a_document_carries_loss_without_a_frame() -> None:
    speech = with_template(CHATML_TOOLS)
    speech.teaches = "text"
    row = encode(speech, (("assistant", "def main(): return 0"),))
    assert speech.tokenizer.decode(list(row.ids)) == "<s>def main(): return 0<|im_end|>"
    assert all(row.said)


def test_all_text_of_a_conversation_carries_loss_whoever_says_it() -> None:
    speech = teaching("text")
    for turns in (TURNS, (("user", "only a question"),)):
        row = encode(speech, turns)
        assert all(row.said)
        assert speech.tokenizer.decode(list(row.ids)) == "".join(f"<|{role}|>{text}<|end|>" for role, text in turns)
