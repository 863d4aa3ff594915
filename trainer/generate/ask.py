"""A model open for questions, from a run's folder, a checkpoint or an export.

Here: opening it, a conversation as a prompt, the answer as text while it grows.
Elsewhere: decoding (model.generate), choosing tokens (sampling.py), reading files (conversation.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch

from shardkit import Message, Sample, SpecError, prepare_sample
from trainer.checkpoint import NEWEST
from trainer.data.collate import collate
from trainer.data.media import Undecodable, Unfit, load_media
from trainer.data.tokenise import Encoded, Speech
from trainer.eval.answers import split_answer
from trainer.export.find import find_trained, load_trained
from trainer.export.parts import is_export, open_export
from trainer.generate.conversation import Conversation, Given, MediumFile, ask, checked, read_media
from trainer.generate.sampling import Decoding, chooser
from trainer.model.generate import Choose, decode
from trainer.model.precision import computing, settle_precision
from trainer.model.table import Model as Trained

Show = Callable[[str], None]
UNBOUNDED = 1 << 20
GREEDY = Decoding()
REASONS = {
    "blind": "the model has no eyes (its spec has no model.vision), and an image or a video is given",
    "deaf": "the model has no ears (its spec has no model.audio), and sound is given",
    "marks": "the marks <|image|>, <|audio|>, <|video|> in the messages are not as many as the files given",
    "no-keyframes": "a video has no frame that decodes",
}


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `complete`: the model ended it itself; `unheard_seconds` of sound did not fit its windows."""

    text: str
    tokens: int
    complete: bool
    prompt_tokens: int
    unheard_seconds: float = 0.0


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the trainer uses of a dataset's item."""

    sample: Sample
    members: dict[str, bytes]
    key: str = "given"


def open_model(
    folder: str | Path, *, device: str = "auto", warn: Show = lambda text: None, checkpoint: str | Path = NEWEST
) -> Model:
    """The model in a run's folder, a checkpoint or an export. `checkpoint` of a run: `newest`, `best`, or a path.

    Raises SpecError where there is none, or no such device; ExportDamaged.
    """
    folder = Path(folder)
    if is_export(folder):
        if checkpoint != NEWEST:
            raise SpecError(f"{folder} is an export, made of one checkpoint; take --checkpoint {checkpoint} out")
        omni, speech, record = open_export(folder)
        return Model(omni, speech, _Setting(device=_device(device), dtype=record.dtype, step=record.step))
    trained = find_trained(folder, checkpoint, warn)
    model, speech = load_trained(trained)
    return Model(model, speech, _Setting(device=_device(device), dtype=trained.spec.dtype, step=trained.progress.step))


class _Setting(msgspec.Struct, frozen=True, kw_only=True):
    device: torch.device
    dtype: str
    step: int


class Model:
    """A trained model that answers. It computes as its training did, in the precision of the run."""

    def __init__(self, omni: Trained, speech: Speech, setting: _Setting) -> None:
        settle_precision(omni, getattr(torch, setting.dtype))
        self.omni = omni.to(setting.device).eval()
        self.speech = speech
        self.step = setting.step
        self._device = setting.device
        self._dtype = setting.dtype

    def answer(
        self,
        question: str,
        *,
        images: Sequence[MediumFile] = (),
        audio: Sequence[MediumFile] = (),
        videos: Sequence[MediumFile] = (),
        how: Decoding = GREEDY,
    ) -> str:
        """The answer to a question about files (paths or bytes). Raises SpecError."""
        given = Given(images=tuple(images), audio=tuple(audio), videos=tuple(videos))
        return self.reply(ask(question, given), how).text

    def reply(self, conversation: Conversation, how: Decoding = GREEDY, show: Show | None = None) -> Reply:
        """The next turn of a conversation; `show` gets its text piece by piece as it is found. Raises SpecError."""
        prompt = self._prompt(checked(conversation))
        most = self._room(len(prompt.ids), how.max_tokens)
        text = _Text(self.speech, show)
        batch = collate([("given", prompt)], self.omni.senses, self.speech.pad_id).to(self._device)
        with computing(self._device, self._dtype):
            (ids,) = decode(self.omni, batch, most, self.speech.end_ids, text.watching(chooser(how)))
        return Reply(
            text=text.end(ids),
            tokens=len(ids),
            complete=len(ids) < most,
            prompt_tokens=len(prompt.ids),
            unheard_seconds=prompt.cut_seconds,
        )

    def _prompt(self, conversation: Conversation) -> Encoded:
        """The conversation as training framed it, up to where the answer begins."""
        answered = (*conversation.messages, Message(role="assistant", content="."))
        sample, members = prepare_sample(answered, read_media(conversation.given))  # type: ignore[arg-type]
        senses = self.omni.senses
        try:
            media = load_media(_Stored(sample=sample, members=members), senses)  # type: ignore[arg-type]
            row = self.speech.encode(sample, media, senses, UNBOUNDED)
        except Unfit as unfit:
            raise SpecError(REASONS.get(str(unfit), f"the conversation does not fit the model: {unfit}")) from None
        except Undecodable as error:
            raise SpecError(f"a file given does not decode: {error}") from None
        split = split_answer(row, senses, self.speech)
        if split is None:
            raise SpecError("the tokeniser's chat template has no place for an answer")
        return split[0]

    def _room(self, used: int, most: int) -> int:
        """As many tokens as the language model has positions behind the prompt, at most `most`."""
        positions = getattr(self.omni.language.config, "max_position_embeddings", None)
        if positions and used >= positions:
            raise SpecError(f"the conversation takes {used} tokens; the language model has {positions} places")
        return min(most, positions - used) if positions else most


class _Text:
    """An answer's tokens as text that is shown as soon as whole characters are there."""

    def __init__(self, speech: Speech, show: Show | None) -> None:
        self._speech = speech
        self._show = show
        self._ids: list[int] = []
        self._shown = 0

    def watching(self, choose: Choose) -> Choose:
        """The same choice, each token of it shown."""

        def watched(logits: torch.Tensor) -> torch.Tensor:
            chosen = choose(logits)
            token = int(chosen[0])
            if token not in self._speech.end_ids:
                self._ids.append(token)
                self._advance(self._read(self._ids))
            return chosen

        return watched if self._show else choose

    def end(self, ids: list[int]) -> str:
        """The whole text; what of it has not been shown is shown."""
        text = self._read(ids)
        if self._show and len(text) > self._shown:
            self._show(text[self._shown :])
        return text

    def _advance(self, text: str) -> None:
        whole = text.rstrip("\ufffd")  # a character of several tokens, of which not all are there
        if self._show and len(whole) > self._shown:
            self._show(whole[self._shown :])
            self._shown = len(whole)

    def _read(self, ids: Sequence[int]) -> str:
        return str(self._speech.tokenizer.decode(list(ids), skip_special_tokens=True))


def _device(name: str) -> torch.device:
    if name not in ("cpu", "cuda", "auto"):
        raise SpecError(f"--device {name}: there are cpu, cuda and auto")
    if name == "cuda" and not torch.cuda.is_available():
        raise SpecError("--device is cuda and torch finds no GPU; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
