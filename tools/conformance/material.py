"""The samples that every tool writes and reads: numbered texts and images of random bytes.

Here: sample n as two fields, its digest, telling which sample a digest is. Standard library only: peers' environments
import it, too.
Elsewhere: writing and reading them (sides).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping

TEXT, IMAGE = "txt", "jpg"


def fields_of(number: int) -> dict[str, bytes]:
    """The two fields of sample `number`, a few hundred bytes."""
    rng = random.Random(f"sample {number}")
    text = f"sample {number}: " + " ".join(f"{rng.getrandbits(16):x}" for _ in range(8 + number % 5))
    return {TEXT: text.encode("ascii"), IMAGE: rng.randbytes(150 + 37 * (number % 5))}


def digest_of(fields: Mapping[str, bytes]) -> str:
    """What a sample is told by: all of its fields and their names."""
    told = hashlib.blake2b(digest_size=12)
    for name in sorted(fields):
        told.update(f"{name} {len(fields[name])} ".encode())
        told.update(fields[name])
    return told.hexdigest()


def digests(count: int) -> list[str]:
    """Digests of samples 0 … count-1."""
    return [digest_of(fields_of(number)) for number in range(count)]
