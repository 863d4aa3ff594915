"""Licences and what each allows.

Here: the classes, the class of a licence by its identifier, policies.
Elsewhere: the licences of a dataset (curate.licences), of the catalog's entries (the folder catalog).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, get_args

LicenceClass = Literal["free", "share-alike", "non-commercial", "research", "unknown"]

LICENCE_CLASSES: dict[LicenceClass, str] = {
    "free": "any use, at most with attribution",
    "share-alike": "any use; what is made from it comes under the same licence",
    "non-commercial": "no commercial use",
    "research": "research only, or so restricted by its authors in one of several places",
    "unknown": "none is declared, or it has conditions that fit no class: read the licence itself",
}
"""Classes from the freest to the strictest, and what each allows."""

ORDER: tuple[LicenceClass, ...] = get_args(LicenceClass)

_PATTERNS: tuple[tuple[str, LicenceClass], ...] = (
    (r"cc-by-nc(-\w+)?(-\d\.\d)?|.*\bnon-?commercial\b.*|polyform-noncommercial.*", "non-commercial"),
    (r".*\bresearch\b.*|.*\bacademic\b.*", "research"),
    (
        r"cc-by-sa(-\d\.\d)?|(a|l)?gpl(-.+|v.+)?|mpl-\d.*|epl-\d.*|eupl-.*|cddl.*|odbl(-.*)?|gfdl.*|osl-.*",
        "share-alike",
    ),
    (
        r"mit(-0)?|apache(-2\.0|-1\.1)?|bsd(-.*)?|0bsd|isc|zlib|bsl-1\.0|unlicense|wtfpl|cc0(-1\.0)?|cc-by(-\d\.\d)?|"
        r"odc-by(-1\.0)?|pddl(-1\.0)?|public-domain|ofl-1\.1|psf-2\.0|python-2\.0|artistic-2\.0|postgresql|ncsa|ecl-2\.0",
        "free",
    ),
)
"""Identifiers as SPDX and the Hugging Face Hub write them, in lower case; the first that fits decides."""


def classify(licence: str) -> LicenceClass:
    """The class of a licence: of `A OR B` the freest, of `A AND B` the strictest; `unknown` where none fits."""
    text = licence.strip().lower().replace("_", "-")
    if not text:
        return "unknown"
    return min((max(map(_class_of, parts), key=ORDER.index) for parts in _choices(text)), key=ORDER.index)


@lru_cache(maxsize=4096)
def is_allowed(licence: str, policy: tuple[str, ...]) -> bool:
    """Whether a policy of classes and single licences takes a licence; of several, all that bind together."""
    names = {name.lower() for name in policy}
    if licence.lower() in names or classify(licence) in names:
        return True
    choices = _choices(licence.strip().lower())
    return any(all(part in names or _class_of(part) in names for part in parts) for parts in choices)


def _choices(text: str) -> list[list[str]]:
    """What one may choose among, and of each choice the licences that bind together."""
    choices = (part.strip(" ()") for part in re.split(r"\s+or\s+", text))
    return [[part.strip(" ()") for part in re.split(r"\s+and\s+|\s*[,+;]\s*", choice)] for choice in choices]


def _class_of(identifier: str) -> LicenceClass:
    plain = re.sub(r"-(or-later|only)$|\s+with\s+.*$", "", identifier)
    return next((name for pattern, name in _PATTERNS if re.fullmatch(pattern, plain, re.ASCII)), "unknown")
