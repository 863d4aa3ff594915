"""The sources of the builds that come with shardkit: every row of them is a draft, or refused for a known reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from shardkit.errors import SpecError
from shardkit.records.normalize import check_normalizer, normalize
from shardkit.records.row import Row
from shardkit.spec import load_spec
from tests.sources.kinds import Opened

BUILDS = Path(__file__).parents[2] / "specs" / "builds"


def test_demo_gives_four_modalities(opened: Callable[..., Opened]) -> None:
    media = {}
    for source in load_spec(BUILDS / "demo.yaml").sources:
        for spec in (source, source.fallback):
            if spec is None or "speech" in getattr(spec, "generator", ""):  # espeak-ng may be absent
                continue
            check_normalizer(spec)
            here = opened(spec)
            assert here.pinned.rows is not None
            assert here.pinned.rows >= spec.sample
            [step] = islice(here.source.rows(here.folder, 0, spec.partitions, None), 1)
            assert isinstance(step.row, Row)
            draft = normalize(step.row, spec, here.pinned.revision)
            assert draft.messages[-1].role == "assistant"
            media[spec.name] = {medium.modality for medium in draft.media}
    assert media == {"code": set(), "screenshots": {"image"}, "audio": {"audio"}, "video": {"video"}}


def test_real_build_needs_its_root() -> None:
    with pytest.raises(SpecError, match="needs a value for: root; add --set root="):
        load_spec(BUILDS / "real.yaml")


def test_real_rows_are_drafts_and_no_answer_is_invented(shared: Path, opened: Callable[..., Opened]) -> None:
    drafts: Counter[str] = Counter()
    refused: Counter[tuple[str, str]] = Counter()
    for spec in load_spec(BUILDS / "real.yaml", {"root": str(shared)}).sources:
        check_normalizer(spec)
        here = opened(spec)
        for row in here.rows():
            if not isinstance(row, Row):
                refused[spec.name, row.reason] += 1
                continue
            draft = normalize(row, spec, here.pinned.revision)
            assert bool(draft.messages) != bool(draft.media)
            drafts[spec.name] += 1
    assert drafts == {
        "gsm8k": 1000, "humaneval": 164, "documents": 20, "compose": 232,
        "images": 16, "speech": 1, "prompts": 25, "film": 1,
    }  # fmt: skip
    assert refused == {("compose", "filtered"): 3}
