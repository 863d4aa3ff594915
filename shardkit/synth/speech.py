"""Generator of spoken sentences about software work, by espeak-ng, with their exact text.

Here: the sentences, calling espeak-ng, mending its WAV header.
Elsewhere: FLAC, resampling and checks (media).
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from functools import cache
from typing import Literal

from shardkit.errors import SourceFailed
from shardkit.synth.draws import Draws
from shardkit.synth.generator import Generator, Made, Parameters
from shardkit.synth.pcm import wav_bytes

PROGRAM = "espeak-ng"
INSTALL = "espeak-ng is not installed; on Debian or Ubuntu: apt-get install espeak-ng, on macOS: brew install espeak-ng"
TIMEOUT_SECONDS = 30
VERBS = (
    "check", "close", "deploy", "describe", "fix", "merge", "move", "open", "rebuild", "refactor", "rename", "restart",
    "review", "revert", "test", "update",
)  # fmt: skip
THINGS = (
    "the build script", "the cache", "the checkout page", "the client library", "the data loader", "the deployment",
    "the failing test", "the login form", "the message queue", "the migration", "the pull request", "the rate limiter",
    "the release branch", "the request handler", "the schema", "the search index", "the session store",
    "the settings page", "the staging server", "the user table",
)  # fmt: skip
WHENS = (
    "after lunch", "as soon as possible", "before the release", "before the stand up", "this afternoon", "this week",
    "today", "tomorrow morning", "when the tests pass", "with the whole team",
)  # fmt: skip
REASONS = (
    "it is too slow", "it leaks memory", "nobody owns it", "the alert fired again", "the logs are full of errors",
    "the numbers do not add up", "users complain about it", "we found a race condition",
)  # fmt: skip
COMMANDS = (
    "open the file", "run the tests", "stop the server", "merge the branch", "show the logs", "close the window",
    "save everything", "undo", "start a new project", "go to line ten",
)  # fmt: skip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class SpeechParameters(Parameters, frozen=True, kw_only=True):
    """`texts`: whole `sentences`, one of ten `commands`, or one to three spoken `digits`.

    `voice` is a voice of espeak-ng. `variety` 0 to 100 is how far pitch and speed vary from clip to clip.
    """

    texts: Literal["sentences", "commands", "digits"] = "sentences"
    voice: str = "en-us"
    variety: int = 50

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+_-]{0,31}", self.voice):
            raise ValueError(f"voice is {self.voice!r}; give the name of a voice, such as en-us")
        if not 0 <= self.variety <= 100:
            raise ValueError(f"variety is {self.variety}; between 0 and 100")


def make_speech(draws: Draws, parameters: SpeechParameters) -> Made:
    """Field `text`, blob `audio` (WAV, 22,050 Hz mono)."""
    text = _TEXTS[parameters.texts](draws)
    pitch = 50 + _spread(draws, 40 * parameters.variety // 100)
    speed = 160 + _spread(draws, 50 * parameters.variety // 100)
    level = 100 - draws.below(30 * parameters.variety // 100 + 1)
    audio = speak(text, ("-v", parameters.voice, "-p", str(pitch), "-s", str(speed), "-a", str(level)))
    return Made(fields={"text": text}, blobs={"audio": audio})


def speak(text: str, arguments: tuple[str, ...]) -> bytes:
    """The text spoken by espeak-ng, as WAV. Raises SourceFailed where it cannot run or fails."""
    path = shutil.which(PROGRAM)
    if not path:
        raise SourceFailed(f"{INSTALL}; or give the source a fallback")
    try:
        done = subprocess.run(
            [path, *arguments, "-b", "1", "--stdin", "--stdout"],
            input=text.encode(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )
    except (subprocess.SubprocessError, OSError) as error:
        raise SourceFailed(f"espeak-ng failed ({type(error).__name__}); try `espeak-ng --stdout hello`") from None
    return _mended(done.stdout)


def sentence(draws: Draws) -> str:
    """A sentence that somebody in a software team might say."""
    verb, thing, when, reason = (draws.choice(options) for options in (VERBS, THINGS, WHENS, REASONS))
    other = draws.choice([entry for entry in THINGS if entry != thing])
    count = draws.between(2, 40)
    templates = (
        f"Please {verb} {thing} {when}.",
        f"We should {verb} {thing}, because {reason}.",
        f"Can you {verb} {thing} and {other} {when}?",
        f"I will {verb} {thing} {when}, because {reason}.",
        f"There are {count} open issues about {thing}.",
        f"First {verb} {thing}, then look at {other}.",
    )
    return draws.choice(templates)


def _mended(data: bytes) -> bytes:
    """espeak-ng writes a header before it knows the length; write the true one. Raises SourceFailed."""
    at = data.find(b"data", 12)
    if data[:4] != b"RIFF" or at < 0 or len(data) <= at + 8 or struct.unpack_from("<HH", data, 20) != (1, 1):
        raise SourceFailed("espeak-ng gave no mono WAV; try another voice (`espeak-ng --voices`)")
    body = data[at + 8 :]
    return wav_bytes(body[: len(body) // 2 * 2], struct.unpack_from("<I", data, 24)[0])


def _spread(draws: Draws, most: int) -> int:
    return draws.between(-most, most)


def _digits(draws: Draws) -> str:
    return " ".join(draws.choice(DIGITS) for _ in range(draws.between(1, 3)))


def _command(draws: Draws) -> str:
    return draws.choice(COMMANDS)


def _missing() -> str:
    return "" if shutil.which(PROGRAM) else INSTALL


@cache
def _version() -> str:
    path = shutil.which(PROGRAM)
    if not path:
        return "missing"
    said = subprocess.run([path, "--version"], capture_output=True, timeout=TIMEOUT_SECONDS, check=False).stdout
    found = re.search(rb"\d+\.\d+[\w.-]*", said)
    return found[0].decode() if found else "unknown"


def _versions() -> dict[str, str]:
    return {PROGRAM: _version()}


_TEXTS = {"sentences": sentence, "commands": _command, "digits": _digits}
SPEECH = Generator(
    name="speech", version=1, parameters=SpeechParameters, row=make_speech, missing=_missing, versions=_versions
)
