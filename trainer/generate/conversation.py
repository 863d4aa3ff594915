"""A conversation with the files that it is about: from a question, or from a JSON file.

Here: reading it, checking it, its bytes.
Elsewhere: decoding the media (shardkit), making tokens of it (ask.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from shardkit import Message, SpecError
from trainer.spec.base import Strict

MediumFile = Path | str | bytes


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """Files of media, in the order of their marks: paths, or the bytes themselves."""

    images: tuple[MediumFile, ...] = ()
    audio: tuple[MediumFile, ...] = ()
    videos: tuple[MediumFile, ...] = ()


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """Messages, the last of which is to be answered, and their media."""

    messages: tuple[Message, ...]
    given: Given = Given()


class _Modalities(Strict, frozen=True, kw_only=True):
    image: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    video: tuple[str, ...] = ()


class _Written(Strict, frozen=True, kw_only=True):
    messages: tuple[Message, ...]
    modalities: _Modalities = _Modalities()


def ask(question: str, given: Given) -> Conversation:
    """A conversation of one question. Raises SpecError where it is empty."""
    return checked(Conversation(messages=(Message(role="user", content=question),), given=given))


def read_messages(path: Path | None, question: str, given: Given) -> Conversation:
    """The conversation in a JSON file, a question behind it if there is one; without a file the question alone.

    `{"messages": [{"role": …, "content": …}, …], "modalities": {"image": [FILE, …], "audio": …, "video": …}}`; paths
    are relative to the JSON file. `given` come behind its media. Raises SpecError.
    """
    if path is None:
        return ask(question, given)
    try:
        written = msgspec.json.decode(path.read_bytes(), type=_Written)
    except OSError as error:
        raise SpecError(f"--messages {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"--messages {path}: {error}; wanted {{messages, modalities}}") from None
    media, folder = written.modalities, path.parent
    turn = (Message(role="user", content=question),) if question.strip() else ()
    joined = Given(
        images=(*(folder / name for name in media.image), *given.images),
        audio=(*(folder / name for name in media.audio), *given.audio),
        videos=(*(folder / name for name in media.video), *given.videos),
    )
    return checked(Conversation(messages=(*written.messages, *turn), given=joined))


def checked(conversation: Conversation) -> Conversation:
    """The conversation itself; raises SpecError where there is nothing to be answered in it."""
    if not conversation.messages:
        raise SpecError("there are no messages; give a question")
    last = conversation.messages[-1]
    if last.role not in ("user", "tool"):
        raise SpecError(f"the last message is the {last.role}'s; wanted one to answer, a user's or a tool's")
    if not last.content.strip():
        raise SpecError("the question is empty; give it as the last argument")
    return conversation


def read_media(given: Given) -> dict[str, list[tuple[str, bytes]]]:
    """Names and bytes of the files by modality; raises SpecError for one that cannot be read."""
    groups = (("image", given.images), ("audio", given.audio), ("video", given.videos))
    return {kind: list(_read(kind, files)) for kind, files in groups}


def _read(kind: str, files: tuple[MediumFile, ...]) -> Iterator[tuple[str, bytes]]:
    for at, file in enumerate(files):
        if isinstance(file, bytes):
            yield f"{kind} {at + 1}", file
            continue
        try:
            yield str(file), Path(file).read_bytes()
        except OSError as error:
            raise SpecError(f"--{kind} {file}: {error.strerror}") from None
