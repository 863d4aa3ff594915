"""Records of samples that others made: from a name and members such as `jpg` and `txt` to a Sample.

Here: which members are media and text, which fields a `json` has, the table of shapes, what the index says of a sample.
Elsewhere: checking text and messages (records.normalize), sizes from headers (media.measure), the bytes (store).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from shardkit.errors import Refused
from shardkit.media.measure import measure_image, measure_sound, measure_video
from shardkit.records.marks import MARKS, escape_marks
from shardkit.records.normalize import normalize
from shardkit.records.row import Modality, Row
from shardkit.records.sample import Audio, Image, Modalities, Sample, Video, decode_sample, member_names
from shardkit.spec import FilesSource
from shardkit.store.index import Facts, facts_of

if TYPE_CHECKING:
    from shardkit.read.item import Item

EXTENSIONS: dict[Modality, tuple[str, ...]] = {
    "image": ("jpg", "jpeg", "png", "webp", "gif", "bmp"),
    "audio": ("flac", "wav", "ogg", "opus", "mp3", "m4a", "aac"),
    "video": ("mp4", "webm", "mkv", "avi", "mov"),
}
"""Members by the end of their name; what their bytes are is looked at before they are taken for it."""

TEXTS = ("txt", "text", "caption", "cap", "transcript", "md")
JSON = "json"
MAX_JSON_BYTES = 16 << 20
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
PLACEHOLDERS: dict[Modality, str] = {"image": "<image>", "audio": "<audio>", "video": "<video>"}
"""What conversations of the kind of LLaVA have where a medium stands."""

Members = Mapping[str, bytes | memoryview]


class _Seen(NamedTuple):
    """A sample's members sorted out: media by modality in the tar's order, the fields of its json, its text."""

    media: dict[Modality, list[str]]
    fields: dict[str, Any]
    text: str | None


class Shape(NamedTuple):
    """One row of the table: its name, the normaliser, what must be there, and the columns made of what is."""

    name: str
    normalizer: str
    fits: Callable[[_Seen], bool]
    columns: Callable[[_Seen], dict[str, Any]]


def sample_of(name: str, source: str, members: Members) -> Sample:
    """The record of a sample that others made, or the one in its `json` where that is a record of ours.

    Raises Refused: no shape fits, or what is there is no text, medium or conversation as the shape has it.
    """
    own = _own_record(members)
    if own is not None:
        return own
    try:
        return _converted(name, source, members)
    except Refused as refused:
        raise Refused(refused.reason, f"sample {name}: {refused.detail or refused.reason}") from None


def record_to_show(item: Item) -> Sample:
    """The item's record; of a sample that others made and that is none, what can be said of it."""
    try:
        return item.sample
    except Refused as refused:
        why = {"no record": f"{refused.reason}: {refused.detail}"}
        return Sample(id=item.key, domain="", category=refused.reason, source="", provenance=why)


def _converted(name: str, source: str, members: Members) -> Sample:
    seen = _sort_out(members)
    shape = next((shape for shape in SHAPES if shape.fits(seen)), None)
    if shape is None:
        raise Refused("schema", f"found {', '.join(members) or 'nothing'}; {WANTED}; its bytes are in `members`")
    named = [(modality, member) for modality, group in seen.media.items() for member in group]
    blobs = {f"{modality}.{seen.media[modality].index(member)}": b"" for modality, member in named}
    row = Row(position=name, fields=shape.columns(seen), blobs=blobs)
    draft = normalize(row, _spec(source, shape.normalizer, shape.name), "")
    return Sample(
        id=draft.id,
        messages=draft.messages,
        domain=source,
        category=shape.name,
        source=source,
        modalities=_measured(seen, members) if draft.media else Modalities(),
    )


class Describer:
    """What the index says of a sample of one source. Never raises: a sample of no known shape is counted as it is."""

    def __init__(self, source: str) -> None:
        self.source = source

    def __call__(self, name: str, members: dict[str, bytes | None]) -> Facts:
        """The facts of its record, or counts of its media by their names alone."""
        there = {member: data for member, data in members.items() if data is not None}
        if len(there) == len(members):
            try:
                return facts_of(sample_of(name, self.source, there))._replace(source=self.source)
            except (Refused, ValueError):
                pass
        counts = {modality: sum(modality_of(member) == modality for member in members) for modality in EXTENSIONS}
        present = sorted(modality for modality, count in counts.items() if count)
        return Facts(0, counts["image"], 0, 0, 0, self.source, "", "+".join(present), "")


@lru_cache(maxsize=256)
def _spec(source: str, normalizer: str, category: str) -> FilesSource:
    """What the normaliser is told: texts of messages come with their marks made here."""
    options: dict[str, str | int | float | bool] = {"marks": True} if normalizer == "messages" else {}
    return FilesSource(name=source, normalizer=normalizer, path="", category=category, options=options)


def _own_record(members: Members) -> Sample | None:
    try:
        sample = decode_sample(members[JSON])
    except (KeyError, Refused):
        return None
    return sample if all(name in members for name in member_names(sample)) else None


def _sort_out(members: Members) -> _Seen:
    media: dict[Modality, list[str]] = {modality: [] for modality in EXTENSIONS}
    for member in members:
        modality = modality_of(member)
        if modality is not None:
            media[modality].append(member)
    text = next((_decode(name, members[name]) for name in TEXTS if name in members), None)
    fields = _fields(members[JSON], text is None) if JSON in members else {}
    if text is None:
        text = next((fields[name] for name in ("caption", "text", "transcript") if _is_text(fields.get(name))), None)
    return _Seen(media, fields, text)


def modality_of(member: str) -> Modality | None:
    """The modality of a member by the extension of its name, if it is a medium's."""
    last = member.rpartition(".")[2]
    return next((modality for modality, names in EXTENSIONS.items() if last in names), None)


def _decode(name: str, data: bytes | memoryview) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not-utf8", name) from None


def _fields(data: bytes | memoryview, needed: bool) -> dict[str, Any]:
    """The fields of a `json`; one that cannot be read is an error only where nothing else has the text."""
    if len(data) > MAX_JSON_BYTES:
        raise Refused("too-big", f"json of {len(data)} bytes, at most {MAX_JSON_BYTES}")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if not needed:
            return {}
        raise Refused("not-json", JSON) from None
    return found if isinstance(found, dict) else {}


def _measured(seen: _Seen, members: Members) -> Modalities:
    images, sounds, videos = ([(name, bytes(members[name])) for name in seen.media[of]] for of in EXTENSIONS)
    return Modalities(
        image=tuple(
            Image(member=name, type="photo", width=found.width, height=found.height)
            for name, found in ((name, measure_image(data)) for name, data in images)
        ),
        audio=tuple(
            Audio(member=name, type="speech", duration_seconds=found.seconds, sample_rate=int(found.rate))
            for name, found in ((name, measure_sound(data)) for name, data in sounds)
        ),
        video=tuple(
            Video(
                name=name, type="footage", duration_seconds=found.seconds, fps=found.rate, width=found.width,
                height=found.height, keyframes=(),
            )
            for name, found in ((name, measure_video(data)) for name, data in videos)
        ),
    )  # fmt: skip


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _has_texts(*names: str) -> Callable[[_Seen], bool]:
    return lambda seen: all(_is_text(seen.fields.get(name)) for name in names)


def _has_turns(name: str) -> Callable[[_Seen], bool]:
    return lambda seen: isinstance(seen.fields.get(name), list) and bool(seen.fields[name])


def _turns(name: str) -> Callable[[_Seen], dict[str, Any]]:
    """A list of {role, content} or {from, value} as messages, media marked where the text has a place for each."""

    def columns(seen: _Seen) -> dict[str, Any]:
        turns = [_turn(turn) for turn in seen.fields[name]]
        system = seen.fields.get("system")
        if _is_text(system) and turns and turns[0]["role"] != "system":
            turns.insert(0, {"role": "system", "content": escape_marks(str(system))})
        return {"messages": _placed(turns, seen.media)}

    return columns


def _turn(turn: Any) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise Refused("missing-field", "a message is not an object")
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    elif isinstance(content, str):
        content = escape_marks(content)
    return {"role": ROLES.get(role, role) if isinstance(role, str) else role, "content": content}


def _part(part: Any) -> str:
    """One part of a message that is a list of parts: text, or the place of a medium."""
    kind = str(part.get("type", "")) if isinstance(part, dict) else ""
    modality = kind.removeprefix("input_").partition("_")[0]
    if modality == "text" and isinstance(part.get("text"), str):
        return escape_marks(part["text"])
    if modality in PLACEHOLDERS:
        return PLACEHOLDERS[modality]
    raise Refused("schema", f"a part of a message is of type {kind[:40]!r}")


def _placed(turns: list[dict[str, Any]], media: Mapping[Modality, Sequence[str]]) -> list[dict[str, Any]]:
    for modality, placeholder in PLACEHOLDERS.items():
        marked = sum(turn["content"].count(placeholder) for turn in turns if isinstance(turn["content"], str))
        if marked and marked == len(media[modality]):
            for turn in turns:
                if isinstance(turn["content"], str):
                    turn["content"] = turn["content"].replace(placeholder, MARKS[modality])
    return turns


def _pair(question: str, answer: str, *, context: str = "") -> Callable[[_Seen], dict[str, Any]]:
    def columns(seen: _Seen) -> dict[str, Any]:
        asked = str(seen.fields[question])
        more = seen.fields.get(context)
        asked = f"{asked}\n\n{more}" if _is_text(more) else asked
        answered = escape_marks(str(seen.fields[answer]))
        turns = [{"role": "user", "content": escape_marks(asked)}, {"role": "assistant", "content": answered}]
        return {"messages": _placed(turns, seen.media)}

    return columns


def _only(modality: Modality) -> Callable[[_Seen], bool]:
    def fits(seen: _Seen) -> bool:
        there = [name for name, group in seen.media.items() if group]
        return there == [modality] and seen.text is not None

    return fits


def _text(seen: _Seen) -> dict[str, Any]:
    return {"text": seen.text}


SHAPES = (
    Shape("messages", "messages", _has_turns("messages"), _turns("messages")),
    Shape("conversations", "messages", _has_turns("conversations"), _turns("conversations")),
    Shape("question_answer", "messages", _has_texts("question", "answer"), _pair("question", "answer")),
    Shape("prompt_completion", "messages", _has_texts("prompt", "completion"), _pair("prompt", "completion")),
    Shape("prompt_response", "messages", _has_texts("prompt", "response"), _pair("prompt", "response")),
    Shape("instruction", "messages", _has_texts("instruction", "output"), _pair("instruction", "output",
                                                                               context="input")),
    Shape("caption", "caption", _only("image"), _text),
    Shape("transcript", "transcript", _only("audio"), _text),
    Shape("caption", "caption", _only("video"), _text),
    Shape("plain_text", "plain_text", lambda seen: seen.text is not None and not any(seen.media.values()), _text),
    Shape("unlabelled", "unlabelled", lambda seen: any(seen.media.values()), lambda seen: {}),
)  # fmt: skip
"""Shapes, the first that fits taken. A new one is a row here."""

WANTED = (
    "wanted image, sound or video with txt or alone, txt alone, or json with messages, conversations, "
    "question and answer, prompt and completion, or text"
)
