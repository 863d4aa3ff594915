"""Generator of short notes: pure text, tiny and fast, for tests and benchmarks of the engine.

Here: a question about a sum and its answer, padded with words to a length.
Elsewhere: generators with media.
"""

from __future__ import annotations

from shardkit.synth.draws import Draws
from shardkit.synth.generator import Generator, Made, Parameters

WORDS = (
    "alpha", "branch", "cache", "deploy", "engine", "feature", "graph", "header", "index", "job", "kernel", "lock",
    "module", "node", "object", "page", "queue", "release", "schema", "token", "unit", "value", "worker", "zone",
)  # fmt: skip


class NotesParameters(Parameters, frozen=True, kw_only=True):
    """`characters`: least length of a question."""

    characters: int = 80

    def __post_init__(self) -> None:
        if not 0 <= self.characters <= 1_000_000:
            raise ValueError(f"characters is {self.characters}; between 0 and 1,000,000")


def make_note(draws: Draws, parameters: NotesParameters) -> Made:
    """Fields `question` and `answer`; the answer is computed."""
    left, right = draws.below(1_000_000), draws.below(1_000_000)
    parts = [f"Ticket {draws.word():08x}: add {left} and {right}."]
    length = len(parts[0])
    while length < parameters.characters:
        parts.append(draws.choice(WORDS))
        length += 1 + len(parts[-1])
    return Made(fields={"question": " ".join(parts), "answer": str(left + right)})


NOTES = Generator(name="notes", version=1, parameters=NotesParameters, row=make_note)
