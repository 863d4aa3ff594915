"""The data card of a version: what it holds, where it comes from, under which licences, what was left out.

Here: the facts in sections, the card as Markdown (a dataset card as the Hugging Face Hub reads it) and as HTML.
Elsewhere: counting (facts.py), pages with samples to look at (report.page).

Nothing in a card depends on when or where it was made: the same version has the same card everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from shardkit.curate.derive import ancestry
from shardkit.curate.facts import Facts, count_facts
from shardkit.curate.omit import count_reasons
from shardkit.read.dataset import Dataset
from shardkit.spec.licences import LICENCE_CLASSES, ORDER, classify
from shardkit.store.layout import CARDS_FOLDER, Manifest, SourceRecord
from shardkit.store.publish import publish_bytes

MOST_ROWS = 50
"""Rows of a section at most; the rest is summed up in one."""

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
"""The Hub's words for how many samples there are."""

SUBJECTS = ("dataset", "config", "split", "generator", "entry", "data_dir", "extensions")
"""Fields of a source's configuration that say which data it is."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A titled table; `note` stands above it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A data card. `licences` and `size` are words of the Hub's front matter."""

    name: str
    version: str
    parent: str | None
    made_by: str
    licences: tuple[str, ...]
    languages: tuple[str, ...]
    size: str
    sections: tuple[Section, ...]
    configuration: str
    seed: int


def write_card(root: Path, dataset: Dataset) -> tuple[Path, Path]:
    """Write a version's card into its folder's `cards`, as Markdown and as HTML, and give their paths back.

    Raises StorageFailed, ShardDamaged.
    """
    card = make_card(dataset)
    paths = (root / CARDS_FOLDER / f"{dataset.version}.md", root / CARDS_FOLDER / f"{dataset.version}.html")
    for path in paths:
        publish_bytes(path, render_card(card, path.suffix[1:]).encode())
    return paths


def has_card(root: Path, version: str) -> bool:
    """Whether a folder holds the card of a version."""
    return all((root / CARDS_FOLDER / f"{version}.{form}").is_file() for form in ("md", "html"))


def make_card(dataset: Dataset) -> Card:
    """The card of an open dataset. Raises ShardDamaged, StorageFailed."""
    manifest, facts = dataset.manifest, count_facts(dataset)
    sections = (
        _contents(manifest),
        *(section for section in (_splits(facts),) if section.rows),
        _sources(manifest, facts),
        _licences(facts),
        _counted("Categories", "category", facts.by_category),
        _left_out(dataset),
        _history(dataset),
    )
    return Card(
        name=manifest.name,
        version=dataset.version,
        parent=manifest.parent,
        made_by=manifest.step.name if manifest.step else "build",
        licences=tuple(sorted({licence or "unknown" for licence, _ in facts.by_licence})),
        languages=tuple(sorted({str(source.config.get("language", "")) for source in manifest.plan.sources} - {""})),
        size=next((word for limit, word in SIZES if len(dataset) < limit), "n>10M"),
        sections=tuple(section for section in sections if section.rows),
        configuration=manifest.plan_digest,
        seed=manifest.plan.seed,
    )


def render_card(card: Card, form: str) -> str:
    """The card as `md` or `html`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("shardkit", "curate"),
        autoescape=form == "html",
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    environment.filters["cell"] = _cell
    return environment.get_template(f"card.{form}.j2").render(card=card)


def _contents(manifest: Manifest) -> Section:
    totals, sums = manifest.totals, manifest.totals.sums
    facts = {
        "samples": f"{totals.samples:,}",
        "shards": f"{totals.shards:,}",
        "bytes": f"{totals.bytes:,}",
        "characters of text": f"{sums.text_characters:,}",
        "images": f"{sums.images:,}",
        "frames of video": f"{sums.frames:,}",
        "hours of sound": f"{sums.audio_ms / 3_600_000:,.2f}",
    }
    facts |= {
        f"samples of {modalities or 'no modality'}": f"{count:,}" for modalities, count in totals.by_modality.items()
    }
    return Section(title="What it holds", columns=("", ""), rows=tuple(facts.items()))


def _splits(facts: Facts) -> Section:
    total = max(1, sum(facts.by_split.values()))
    rows = tuple((name, f"{count:,}", f"{count / total:.2%}") for name, count in facts.by_split.items())
    return Section(title="Splits", columns=("split", "samples", "share"), rows=rows)


def _sources(manifest: Manifest, facts: Facts) -> Section:
    rows = []
    for source in manifest.plan.sources:
        subject = ", ".join(f"{name} {_said(source.config[name])}" for name in SUBJECTS if source.config.get(name))
        count = sum(samples for (_, name), (samples, _) in facts.by_licence.items() if name == source.name)
        made = ", ".join(f"{name} {version}" for name, version in source.toolchain.items())
        told = "; ".join(part for part in (subject, source.decision) if part)
        rows.append((source.name, _kind(source), f"{count:,}", told, source.revision, made))
    columns = ("source", "kind", "samples", "what", "revision", "made with")
    return Section(title="Sources", columns=columns, rows=tuple(rows))


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _kind(source: SourceRecord) -> str:
    return f"{source.kind}, {source.config.get('normalizer', '')}"


def _licences(facts: Facts) -> Section:
    rows = []
    for (licence, source), (samples, size) in facts.by_licence.items():
        found = classify(licence)
        told = (licence or "none given", found, LICENCE_CLASSES[found], source, f"{samples:,}", f"{size:,}")
        rows.append((ORDER.index(found), told))
    rows.sort(key=lambda row: (-row[0], row[1]))
    columns = ("licence", "class", "what the class allows", "source", "samples", "bytes in the tar")
    return Section(title="Licences", columns=columns, rows=tuple(told for _, told in rows))


def _counted(title: str, column: str, counts: dict[str, int]) -> Section:
    rows = [(name or "none", f"{count:,}") for name, count in counts.items()][:MOST_ROWS]
    rest = [*counts.values()][MOST_ROWS:]
    rows += [(f"{len(rest)} others", f"{sum(rest):,}")] if rest else []
    return Section(title=title, columns=(column, "samples"), rows=tuple(rows))


def _left_out(dataset: Dataset) -> Section:
    manifest, counts = dataset.manifest, count_reasons(dataset)
    given = sum(counts.values())
    for lane in manifest.lanes.values():
        for reason, count in lane.refused.items():
            counts[f"refused: {reason}"] = counts.get(f"refused: {reason}", 0) + count
        if lane.duplicates:
            counts["duplicate within a shard"] = counts.get("duplicate within a shard", 0) + lane.duplicates
    if manifest.totals.omitted > given:
        counts["omitted: stored, not part of this version"] = manifest.totals.omitted - given
    rows = tuple((reason, f"{count:,}") for reason, count in sorted(counts.items()))
    return Section(title="What was left out", columns=("reason", "rows"), rows=rows)


def _history(dataset: Dataset) -> Section:
    rows = []
    for version, manifest in ancestry(dataset.store, dataset.version, dataset.manifest):
        step = manifest.step
        rows.append((version, step.name if step else "build", f"{manifest.totals.samples:,}", _options(step)))
    return Section(title="Versions", columns=("version", "made by", "samples", "options"), rows=tuple(rows[:MOST_ROWS]))


def _options(step: Any) -> str:
    return "" if step is None else msgspec.json.encode(step.options, order="sorted").decode()


def _cell(text: str) -> str:
    """Text in a cell of a Markdown table."""
    return "".join(_escaped(text))


def _escaped(text: str) -> Iterator[str]:
    for character in " ".join(text.split()):
        yield f"\\{character}" if character in "\\|<>*_`[]" else character
