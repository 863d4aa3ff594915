"""Text to tokens: the tokeniser, the chat's frame around messages, and which tokens the assistant says.

Here: training a small BPE, loading any tokeniser, encoding one sample with places for its media.
Elsewhere: the media themselves (media.py), padding to a batch (collate.py).

User text can never become a special token: the frame is rendered with stand-ins where the messages go, and only the
frame is encoded with special tokens allowed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from shardkit import Message, Sample, SpecError, split_marks, unescape_marks
from trainer.data.frame import Frame, render_frame
from trainer.data.media import Medium, Senses, Unfit
from trainer.data.preferences import answers_of
from trainer.digests import check_digests

PAD, END = "<|pad|>", "<|end|>"
ROLES = tuple(f"<|{role}|>" for role in ("system", "user", "assistant", "tool"))
PLACES = {"image": "<|image|>", "audio": "<|audio|>", "video": "<|video|>"}
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
Teaches = Literal["answers", "text", "pairs", "feedback"]
"""What of a sample carries loss: the assistant's messages, all text, or answers that are compared (or judged)."""


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """One sample as tokens. `said` marks what carries loss: what the assistant says, its end-of-turn token included.

    `images` and `windows` are in the order of their places among `ids`. `kind` is the richest modality; `source` and
    `category` are the record's. Where answers are compared, this is one of them, `wanted` if it is a good one, and
    `rival` is the bad one to the same prompt.
    """

    ids: tuple[int, ...]
    said: tuple[bool, ...]
    kind: str
    images: tuple[Any, ...] = ()
    windows: tuple[Any, ...] = ()
    sounding: tuple[int, ...] = ()
    cut_tokens: int = 0
    cut_seconds: float = 0.0
    source: str = ""
    category: str = ""
    wanted: bool | None = None
    rival: Encoded | None = None


class Speech:
    """A tokeniser with a chat frame and places for media: encodes samples, decodes answers, saves itself.

    `teaches` says what of a sample is encoded and carries loss.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.teaches: Teaches = "answers"
        if tokenizer.chat_template is None:
            tokenizer.chat_template = TEMPLATE
            _add(tokenizer, (END, *ROLES))
        _add(tokenizer, tuple(PLACES.values()))
        if tokenizer.pad_token_id is None:
            _add(tokenizer, (PAD,))
            tokenizer.pad_token = PAD
        self.places = {name: int(tokenizer.convert_tokens_to_ids(mark)) for name, mark in PLACES.items()}
        self._alone = threading.RLock()
        self._frames: dict[tuple[str, ...], Frame] = {}

    @property
    def vocabulary(self) -> int:
        """Number of token ids, special ones included."""
        return len(self.tokenizer)

    @property
    def pad_id(self) -> int:
        """The id that fills rows behind their ends."""
        return int(self.tokenizer.pad_token_id)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids that no text of a message may produce."""
        added = self.tokenizer.added_tokens_decoder
        return frozenset({*self.tokenizer.all_special_ids, *(at for at, token in added.items() if token.special)})

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Ids that end an answer: what closes the assistant's turn in the chat's frame, and the end of a text."""
        with self._alone:
            ids, said = self._frame(("user", "assistant"), ([], []))
        closing = {token for token, mine in zip(ids, said, strict=True) if mine and token in self.special_ids}
        end = self.tokenizer.eos_token_id
        return frozenset(closing | ({int(end)} if end is not None else set()))

    def encode_text(self, text: str) -> list[int]:
        """Tokens of a plain text, none of them special whatever the text says."""
        backend = self.tokenizer._tokenizer
        with self._alone:  # the switch is the tokeniser's own: another thread would see it
            backend.encode_special_tokens = True
            try:
                return list(backend.encode(text, add_special_tokens=False).ids)
            finally:
                backend.encode_special_tokens = False

    def save(self, folder: Path) -> None:
        """Write the tokeniser so that `load_speech` and transformers read it."""
        self.tokenizer.save_pretrained(str(folder))

    def check(self, sample: Sample) -> None:
        """Raises Unfit with the reason where a sample has nothing of what is taught; its media are not looked at."""
        if self.teaches in ("pairs", "feedback"):
            answers_of(sample, unpaired=self.teaches == "feedback")
        elif not any(message.role == "assistant" or self.teaches == "text" for message in sample.messages):
            raise Unfit("unlabelled")

    def encode(self, sample: Sample, media: Sequence[Medium], senses: Senses, max_tokens: int) -> Encoded:
        """One sample as tokens; raises Unfit with the reason where there is nothing to train on.

        Media stand at their marks, in order; those of a sample without any mark come before the first message's text.
        Cut behind `max_tokens`; a sample whose media or whole answer would be cut off is unfit. Answers that are
        compared are never cut: a sample of which one is too long is unfit.
        """
        self.check(sample)
        if self.teaches in ("pairs", "feedback"):
            return self._encode_answers(sample, media, senses, max_tokens)
        row = self._encode(sample, sample.messages, media, senses)
        ids, said = row.ids, row.said
        places = frozenset(self.places.values())
        if len(ids) > max_tokens and any(token in places for token in ids[max_tokens:]):
            raise Unfit("too-long")
        if not any(said[1:max_tokens]):
            raise Unfit("no-answer" if not any(said[1:]) else "too-long")
        return msgspec.structs.replace(
            row, ids=ids[:max_tokens], said=said[:max_tokens], cut_tokens=max(0, len(ids) - max_tokens)
        )

    def _encode_answers(self, sample: Sample, media: Sequence[Medium], senses: Senses, max_tokens: int) -> Encoded:
        """The good answer with the bad one as its rival, or the only one there is; the prompt carries no loss."""
        prompt, answers = answers_of(sample, unpaired=self.teaches == "feedback")
        rows = []
        for wanted, text in answers:
            messages = (*prompt, Message(role="assistant", content=text))
            row = self._encode(sample, messages, media, senses, last=True)
            if len(row.ids) > max_tokens:
                raise Unfit("too-long")
            if not any(row.said[1:]):
                raise Unfit("no-answer")
            rows.append(msgspec.structs.replace(row, wanted=wanted))
        return msgspec.structs.replace(rows[0], rival=rows[1]) if len(rows) > 1 else rows[0]

    def _encode(
        self, sample: Sample, messages: Sequence[Message], media: Sequence[Medium], senses: Senses, last: bool = False
    ) -> Encoded:
        """Messages as tokens, uncut; `last`: of what the assistant says, only the last message carries loss."""
        with self._alone:
            placed, order = self._place(messages, media, senses)
            if self.teaches == "text":
                ids, said = self._whole(messages, placed)
            else:
                ids, said = self._frame(tuple(message.role for message in messages), placed, last)
        return Encoded(
            ids=tuple(ids),
            said=tuple(said),
            kind=_kind(media),
            images=tuple(image for medium in order for image in medium.images),
            windows=tuple(window for medium in order for window in medium.windows),
            sounding=tuple(count for medium in order for count in medium.sounding),
            cut_seconds=sum(medium.cut_seconds for medium in media),
            source=sample.source,
            category=sample.category,
        )

    def _place(
        self, messages: Sequence[Message], media: Sequence[Medium], senses: Senses
    ) -> tuple[list[list[int]], list[Medium]]:
        """Every message's tokens with its media's places, and the media in the order of their places."""
        waiting = {name: [medium for medium in media if medium.modality == name] for name in PLACES}
        parts = [split_marks(message.content) for message in messages]
        marks = [str(part) for split in parts for part in split if type(part) is not str]
        order: list[Medium] = []
        placed: list[list[int]] = []
        if not marks and media:
            order = list(media)
            placed.append([token for medium in media for token in self._places(medium, senses)])
        elif any(marks.count(name) != len(waiting[name]) for name in PLACES):
            raise Unfit("marks")
        for at, split in enumerate(parts):
            ids = placed.pop() if at == 0 and placed else []
            for part in split:
                if type(part) is str:
                    ids += self.encode_text(unescape_marks(part))
                else:
                    medium = waiting[str(part)].pop(0)
                    order.append(medium)
                    ids += self._places(medium, senses)
            placed.append(ids)
        return placed, order

    def _places(self, medium: Medium, senses: Senses) -> list[int]:
        """Placeholder ids of one medium: images under `image` or `video`, every window of sound under `audio`."""
        seen = self.places["video" if medium.modality == "video" else "image"]
        heard = [self.places["audio"]] * (senses.audio_latents * len(medium.windows))
        return [seen] * (senses.image_latents * len(medium.images)) + heard

    def _frame(
        self, roles: tuple[str, ...], placed: Sequence[list[int]], last: bool = False
    ) -> tuple[list[int], list[bool]]:
        """Messages joined by the chat's frame, and what of it the assistant says; `last`: in the last message only."""
        if roles not in self._frames:
            self._frames[roles] = render_frame(self.tokenizer, roles, self.special_ids)
        frame = self._frames[roles]
        ids, said = list(frame.pieces[0][0]), [mine and not last for mine in frame.pieces[0][1]]
        for at, (content, spoken, (tokens, mask)) in enumerate(
            zip(placed, frame.spoken, frame.pieces[1:], strict=True), start=1
        ):
            counts = not last or at == len(placed)
            ids += [*content, *tokens]
            said += [spoken and counts] * len(content) + [mine and counts for mine in mask]
        return ids, said

    def _whole(self, messages: Sequence[Message], placed: Sequence[list[int]]) -> tuple[list[int], list[bool]]:
        """All text: a document as it stands, between the tokeniser's marks of a text; a conversation with its frame."""
        if all(message.role == "assistant" for message in messages):
            begin, end = self.tokenizer.bos_token_id, self._end_of_text()
            ids = [*([int(begin)] if begin is not None else []), *(token for part in placed for token in part), *end]
        else:
            ids, _ = self._frame(tuple(message.role for message in messages), placed)
        places = frozenset(self.places.values())
        return ids, [token not in places for token in ids]

    def _end_of_text(self) -> list[int]:
        end = self.tokenizer.eos_token_id
        return [int(end)] if end is not None else sorted(self.end_ids)[:1]


def load_speech(folder_or_id: str) -> Speech:
    """The tokeniser in a folder or of a Hugging Face id; raises SpecError where there is none, ExportDamaged."""
    from transformers import AutoTokenizer

    check_digests(Path(folder_or_id), but="*.safetensors")
    try:
        return Speech(AutoTokenizer.from_pretrained(folder_or_id, trust_remote_code=False))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SpecError(f"tokenizer.pretrained: no tokeniser at {folder_or_id!r} ({reason})") from None


def train_speech(texts: Iterable[str], vocabulary: int) -> Speech:
    """A byte-level BPE trained on `texts`; the same texts in the same order give the same tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END, *ROLES, *PLACES.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return Speech(
        PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token=PAD, eos_token=END, chat_template=TEMPLATE, model_max_length=1 << 30
        )
    )


def texts_of(samples: Iterable[Sample]) -> Iterator[str]:
    """The text between the marks of all messages and compared answers, as a BPE is trained on it."""
    for sample in samples:
        answers = (sample.preference.chosen, sample.preference.rejected) if sample.preference else ()
        for text in (*(message.content for message in sample.messages), *answers):
            for part in split_marks(text):
                if type(part) is str:
                    yield unescape_marks(part)


def _add(tokenizer: Any, tokens: tuple[str, ...]) -> None:
    known = tokenizer.get_vocab()
    tokenizer.add_tokens([token for token in tokens if token not in known], special_tokens=True)


def _kind(media: Sequence[Medium]) -> str:
    return next((name for name in ("video", "audio", "image") if any(m.modality == name for m in media)), "text")
