"""Generator of short screencasts of code being typed, with the sound of the keys.

Here: what is typed, the frames, the question.
Elsewhere: encoding to mp4 (mp4), reading it back (media).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from shardkit.synth.draws import Draws
from shardkit.synth.generator import Generator, Made, Parameters
from shardkit.synth.mp4 import encode_mp4, encoder_versions, missing_encoder
from shardkit.synth.pcm import RATE
from shardkit.synth.ui.paint import font, font_versions, missing_font

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

WIDTH, HEIGHT, BAR = 480, 272, 28
CELL, LEADING = 9, 22
FPS = 8
THEMES = {
    "black": ("#101214", "#e6e6e6", "#6fb3ff"),
    "white": ("#ffffff", "#24292f", "#0550ae"),
    "blue": ("#10307a", "#f0f4ff", "#ffd866"),
    "green": ("#0f4d2a", "#eafff0", "#ffe08a"),
    "yellow": ("#f7e08a", "#3a3000", "#8a2f00"),
    "red": ("#7a1420", "#ffecec", "#ffd0a0"),
}
"""Name of the background to background, text and keyword colours."""
NAMES = ("total", "count", "price", "score", "items", "users", "pages", "delay")
VERBS = ("add", "load", "send", "sort", "merge", "check", "parse", "count")
KEYWORDS = {"def", "return", "for", "in", "if", "function", "const", "let", "SELECT", "FROM", "WHERE", "ORDER", "BY",
            "func", "int", "LIMIT", "of"}  # fmt: skip


class ScreencastParameters(Parameters, frozen=True, kw_only=True):
    """`questions`: `colour` of the background, `language`, `text` (what is typed), or `mixed`, a third each.

    `keyframes`: how many the video has, each half a second long.
    """

    questions: Literal["mixed", "colour", "language", "text"] = "mixed"
    keyframes: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.keyframes <= 240:
            raise ValueError(f"keyframes is {self.keyframes}; between 1 and 240")


def make_screencast(draws: Draws, parameters: ScreencastParameters) -> Made:
    """Fields `question`, `answer`, `text` (the code), `language`, `theme`; blob `video`, an mp4 of H.264 and PCM."""
    language = draws.choice(tuple(_CODE))
    theme = draws.choice(tuple(THEMES))
    file, code = _CODE[language](draws)
    frames = parameters.keyframes * FPS // 2
    typed = _typing(len(code), frames, draws)
    pictures = (_frame(code[:count], file, theme, at) for at, count in enumerate(typed))
    questions = {
        "colour": ("What is the background colour of the editor?", theme),
        "language": ("Which language is being typed?", language),
        "text": ("What code is being typed?", code),
    }
    kind = draws.choice(tuple(questions)) if parameters.questions == "mixed" else parameters.questions
    question, answer = questions[kind]
    video = encode_mp4(pictures, (WIDTH, HEIGHT), FPS, _clicks(typed, draws))
    fields = {"question": question, "answer": answer, "text": code, "language": language, "theme": theme}
    return Made(fields=fields, blobs={"video": video})


def _typing(characters: int, frames: int, draws: Draws) -> list[int]:
    """How many characters stand at each frame: uneven, from none to all, the last frames still."""
    weights = [draws.between(1, 6) for _ in range(max(1, frames * 7 // 8))]
    total, gone, counts = sum(weights), 0, [0]
    for weight in weights:
        gone += weight
        counts.append(characters * gone // total)
    return (counts + [characters] * frames)[:frames]


def _frame(text: str, file: str, theme: str, number: int) -> Picture:
    """The editor with the text typed so far and a cursor that blinks."""
    from PIL import Image, ImageDraw

    ground, ink, accent = THEMES[theme]
    picture = Image.new("RGB", (WIDTH, HEIGHT), ground)
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 0, WIDTH, BAR), fill="#c9ced6")
    for at, colour in enumerate(("#ff5f57", "#febc2e", "#28c840")):
        pen.ellipse((10 + 18 * at, 9, 20 + 18 * at, 19), fill=colour)
    pen.text((WIDTH // 2, BAR // 2), file, font=font(13), fill="#30343a", anchor="mm")
    x, y = 44, BAR + 20
    lines = text.split("\n")
    for at, line in enumerate(lines):
        y = BAR + 20 + LEADING * at
        pen.text((28, y), str(at + 1), font=font(13), fill=accent, anchor="rm")
        x = _write(pen, line, y, (ink, accent))
    if number % 4 < 3:
        pen.rectangle((x + 1, y - 9, x + 2, y + 9), fill=ink)
    return picture


def _write(pen: object, line: str, y: int, colours: tuple[str, str]) -> int:
    """A line in cells of equal width, keywords in the accent's colour; returns where the cursor stands."""
    from PIL.ImageDraw import ImageDraw

    assert isinstance(pen, ImageDraw)
    x = 44
    for word in _words(line):
        colour = colours[1] if word in KEYWORDS else colours[0]
        for letter in word:
            if letter != " ":
                pen.text((x + CELL // 2, y), letter, font=font(15), fill=colour, anchor="mm")
            x += CELL
    return x


def _words(line: str) -> list[str]:
    """The line cut where letters begin and end; together the parts are the line."""
    parts = [""]
    for letter in line:
        if parts[-1] and parts[-1][-1].isalpha() != letter.isalpha():
            parts.append("")
        parts[-1] += letter
    return parts


def _clicks(typed: list[int], draws: Draws) -> NDArray[np.int16]:
    """A click for every key, at most six a frame: noise that dies away, on near silence."""
    import numpy as np

    samples = np.zeros(len(typed) * RATE // FPS, dtype=np.int64)
    fade = np.array([1 << 12 >> (at // 24) for at in range(240)], dtype=np.int64)
    noise = np.array([draws.below(2049) - 1024 for _ in range(len(fade))], dtype=np.int64)
    for at in range(1, len(typed)):
        keys = min(6, typed[at] - typed[at - 1])
        for key in range(keys):
            start = at * RATE // FPS + key * (RATE // FPS) // (keys + 1) + draws.below(100)
            length = min(len(fade), len(samples) - start)
            samples[start : start + length] += (noise * fade * draws.between(4, 9) >> 12)[:length]
    return np.clip(samples, -32768, 32767).astype(np.int16)


def _python(draws: Draws) -> tuple[str, str]:
    verb, name, item = draws.choice(VERBS), draws.choice(NAMES), draws.choice("abcxyz")
    number = draws.between(2, 99)
    return f"{verb}.py", (
        f"def {verb}_{name}(values):\n    {name} = {number}\n    for {item} in values:\n"
        f"        {name} += {item}\n    return {name}"
    )


def _javascript(draws: Draws) -> tuple[str, str]:
    verb, name, number = draws.choice(VERBS), draws.choice(NAMES), draws.between(2, 99)
    return f"{verb}.js", (
        f"function {verb}(list) {{\n  let {name} = {number};\n  for (const x of list) {{\n"
        f"    {name} += x;\n  }}\n  return {name};\n}}"
    )


def _sql(draws: Draws) -> tuple[str, str]:
    first, second, table = draws.some(NAMES, 3)
    number, most = draws.between(2, 99), draws.between(2, 99)
    return f"{table}.sql", (
        f"SELECT {first}, {second}\nFROM {table}\nWHERE {first} > {number}\nORDER BY {second}\nLIMIT {most};"
    )


def _go(draws: Draws) -> tuple[str, str]:
    verb, name, number = draws.choice(VERBS), draws.choice(NAMES), draws.between(2, 99)
    return f"{verb}.go", f"func {verb}(n int) int {{\n\t{name} := n * {number}\n\treturn {name}\n}}".replace(
        "\t", "    "
    )


_CODE = {"python": _python, "javascript": _javascript, "sql": _sql, "go": _go}


def _missing() -> str:
    return missing_font() or missing_encoder()


def _versions() -> dict[str, str]:
    return font_versions() | encoder_versions()


SCREENCAST = Generator(
    name="screencast",
    version=1,
    parameters=ScreencastParameters,
    row=make_screencast,
    missing=_missing,
    versions=_versions,
)
