"""Every generator: the same row for the same (seed, index), whatever else is made, wherever."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import pytest

from shardkit.errors import SpecError
from shardkit.media.prepare import prepare
from shardkit.records.row import Draft, RawMedium, Row
from shardkit.spec import Limits, MediaOptions
from shardkit.synth.draws import Draws
from shardkit.synth.table import GENERATORS

KNOWN_WORDS = [2527691855, 3938829285, 1496116976]
KNOWN_BELOW = [855, 113, 216, 818, 433]
MEDIA = {"image": "ui_mock", "audio": "tones", "video": "screencast"}


def generator(name: str) -> Any:
    found = GENERATORS[name]
    if missing := found.missing_tool():
        pytest.skip(missing)
    return found


def digest(row: Row) -> str:
    fields = json.dumps(row.fields, sort_keys=True).encode()
    return hashlib.sha256(fields + b"".join(row.blobs[name] for name in sorted(row.blobs))).hexdigest()


@pytest.mark.parametrize("name", GENERATORS)
def test_a_row_is_the_same_twice(name: str) -> None:
    make = generator(name).make
    assert make(7, 3, {}) == make(7, 3, {})


@pytest.mark.parametrize("name", GENERATORS)
def test_a_row_does_not_depend_on_the_rows_made_before(name: str) -> None:
    make = generator(name).make
    forwards = [make(7, index, {}) for index in range(4)]
    backwards = [make(7, index, {}) for index in reversed(range(4))][::-1]
    assert forwards == backwards


@pytest.mark.parametrize("name", GENERATORS)
def test_another_process_makes_the_same_row(name: str) -> None:
    here = digest(generator(name).make(7, 5, {}))
    code = (
        "from tests.synth.test_generators import digest; from shardkit.synth.table import GENERATORS;"
        f"print(digest(GENERATORS[{name!r}].make(7, 5, {{}})))"
    )
    env = {"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "123", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONPATH": "."}
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert there.stdout.strip() == here


@pytest.mark.parametrize("name", GENERATORS)
def test_seed_and_index_both_matter(name: str) -> None:
    make = generator(name).make
    rows = [digest(make(seed, index, {})) for seed in (1, 2) for index in range(3)]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", GENERATORS)
def test_rows_become_samples(name: str) -> None:
    row = generator(name).make(7, 0, {})
    media = tuple(
        RawMedium(modality=field, type=MEDIA[field], data=blob)  # type: ignore[arg-type]
        for field, blob in row.blobs.items()
    )
    draft = Draft(id=row.position, domain="d", category="c", source="s", media=media)
    made = prepare(draft, MediaOptions(), Limits())
    assert bool(made.members) == (name != "notes")
    assert prepare(draft, MediaOptions(), Limits()) == made


@pytest.mark.parametrize("name", GENERATORS)
def test_the_toolchain_names_the_generator_and_no_place(name: str) -> None:
    versions = GENERATORS[name].toolchain()
    assert versions[f"synth.{name}"] == str(GENERATORS[name].version)
    assert not any("/" in version for version in versions.values())


@pytest.mark.parametrize("name", GENERATORS)
def test_an_unknown_parameter_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(SpecError, match="its parameters are: "):
        GENERATORS[name].check({"no_such": 1})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("ui_mockup", {"questions": "none"}),
        ("ui_mockup", {"themes": 1}),
        ("speech", {"voice": "-w/tmp/x"}),
        ("speech", {"variety": 101}),
        ("dtmf", {"digits": 0}),
        ("dtmf", {"tone_milliseconds": 1}),
        ("screencast", {"keyframes": 0}),
        ("notes", {"characters": -1}),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        GENERATORS[name].check(parameters)


def test_draws_never_change() -> None:
    """Written down once: another value here means that every generated dataset changes."""
    draws = Draws(7, "notes", 0)
    assert [draws.word() for _ in range(3)] == KNOWN_WORDS
    assert [Draws(7, "notes", at).below(1000) for at in range(5)] == KNOWN_BELOW


def test_draws_are_fair() -> None:
    draws = Draws(1, "fair", 0)
    counts = [0] * 7
    for _ in range(7000):
        counts[draws.below(7)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


def test_some_gives_different_options() -> None:
    for index in range(50):
        chosen = Draws(1, "some", index).some("abcdef", 4)
        assert len(set(chosen)) == 4


def test_draws_go_on_past_one_refill() -> None:
    draws = Draws(1, "long", 0)
    words = [draws.word() for _ in range(300)]
    assert len(set(words)) == 300
