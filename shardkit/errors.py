"""Errors that callers may catch, each with the exit code that the commands give it.

Here: the tree of exceptions and the reason codes of dead letters.
Elsewhere: how a command prints them (cli), how a dead letter is stored (build).
"""

from __future__ import annotations

from typing import ClassVar


class ShardkitError(Exception):
    """Base of every error that shardkit raises on purpose.

    The message says what was found, what was wanted, and what to do next.
    `exit_code` is what a command exits with: 1 failed, 2 usage or bad input, 3 partly done, 4 damage found.
    """

    exit_code: ClassVar[int] = 1


class SpecError(ShardkitError):
    """A spec, an option or an input named by the user is wrong: unknown field, missing folder, empty source."""

    exit_code: ClassVar[int] = 2


class NoSamples(SpecError):
    """A build came to its end, and no row of any source had become a sample."""


class NotADataset(SpecError):
    """A folder or URL given as a dataset holds none."""


class PolicyRefused(ShardkitError):
    """What is there is whole, and a policy that the user gave does not allow it (licences, quality)."""


class NothingToPack(SpecError):
    """More samples in a row than a dataset has were left out of packs; `passed` is what was made of them."""

    def __init__(self, message: str, passed: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.passed = passed


class Locked(ShardkitError):
    """Another process builds into the same folder."""


class StorageFailed(ShardkitError):
    """Writing to or reading from a disk or a server failed (no space, I/O error, connection lost)."""


class UrlRefused(StorageFailed):
    """A URL found in data points where data may not make us ask: another scheme, a private address."""


class SourceFailed(ShardkitError):
    """A source could not be read now; running again may succeed. Its lane stops at its cursor."""

    exit_code: ClassVar[int] = 3


class SourceUnavailable(SourceFailed):
    """A source cannot be had from here: no permission, no credentials, gone, offline. Its fallback is taken instead.

    `reason` is what a manifest says of it: short, without any address of a server.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[SourceUnavailable], tuple[str, str]]:
        return SourceUnavailable, (str(self), self.reason)


class SourceChanged(SourceFailed):
    """A source is no longer what the plan pinned: changed since planned."""


class SourceDamaged(SourceFailed):
    """A source's own bytes are broken (a truncated gz): running again fails the same until they are replaced."""


class PlanConflict(SpecError):
    """The folder holds a build of another spec, or was begun with another toolchain."""


class PartlyDone(ShardkitError):
    """Some lanes could not finish; nothing was published as complete; running again goes on."""

    exit_code: ClassVar[int] = 3


class ShardDamaged(ShardkitError):
    """Bytes are not what their digest says: a truncated, altered or missing file."""

    exit_code: ClassVar[int] = 4


class FileMissing(ShardDamaged):
    """A file that the dataset names is not there."""


class StateConflict(SpecError):
    """A reading state does not fit the dataset or the arguments given with it."""


class Refused(ShardkitError):
    """A row that can never become a sample; it goes to the dead letters and the build goes on.

    `reason` is one of `REASONS`. `detail` is a short text that is a pure function of the row's bytes:
    never an exception's text, a path on this machine or a time.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise ValueError(f"reason {reason!r} is not one of {', '.join(sorted(REASONS))}")
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str]]:
        return Refused, (self.reason, self.detail)


REASONS: dict[str, str] = {
    "not-json": "a line is not one JSON object",
    "not-csv": "a record of csv has another number of fields than its header, or quotes that do not match",
    "not-utf8": "text is not valid UTF-8, or holds lone surrogates or NUL",
    "missing-field": "a field that the normaliser needs is absent or has another type",
    "empty-text": "the text, question or answer is empty",
    "bad-role": "a message has an unknown role, or roles are in an impossible order",
    "not-finite": "a number is NaN or infinite",
    "too-long": "the text has more characters than limits.text_characters",
    "too-big": "a member or a row has more bytes than the limits allow",
    "too-many-pixels": "an image has more pixels than limits.image_pixels",
    "too-many-frames": "a video has more frames or keyframes than the limits allow",
    "too-short": "a recording is shorter than the source asks for",
    "too-long-media": "a recording is longer than the limits allow",
    "image-damaged": "an image is truncated or cannot be decoded",
    "audio-damaged": "a recording is truncated or cannot be decoded",
    "video-damaged": "a video is truncated or cannot be decoded",
    "unknown-media": "the bytes are not of an allowed image, audio or video format",
    "no-media": "the normaliser needs a medium and the row has none",
    "member-damaged": "a file in an archive is not what the archive's directory says",
    "no-parent": "a message of a tree whose parent is not in the tree",
    "no-preference": "no answer of the row is preferred to another one",
    "schema": "the finished sample does not fit the schema",
    "licence": "the rules do not allow the licence",
    "language": "the text is in a language that the rules do not name",
    "text-length": "the texts are shorter, longer or more than the rules allow",
    "media-type": "a medium is of a type that the rules do not name",
    "secret": "the text holds a key, a token or a password",
    "personal-data": "the text holds an e-mail address, a number of a telephone, card or account, or an IP address",
    "filtered": "the row does not pass the source's own filter",
}
"""Reason codes of dead letters and what each means."""
