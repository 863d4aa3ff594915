"""A page of a run's curves: metrics.html, one file that needs no network.

Here: which charts and facts there are, writing the file.
Elsewhere: drawing one (chart.py), how it looks (metrics.html.j2), the lines (lines.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from trainer.metrics.chart import HEIGHT, LEFT, RIGHT, WIDTH, Chart, Series, make_chart, show_number
from trainer.metrics.lines import read_evaluations, read_metrics
from trainer.records import NOT_FINITE, is_number

PAGE = "metrics.html"
ERRORS = {"character_error_rate": "characters", "word_error_rate": "words"}
SHOWN = {
    "step", "loss", "learning_rate", "gradient_norm", "tokens_per_second", "samples_per_second", "data_wait",
    "data_wait_mean", "data_wait_p99", "mfu", "tflops", "padding", "pack_fill", "peak_memory_bytes", "checkpoint_stall",
    "evaluation_seconds", "seconds", "step_tokens", "step_samples", "tokens", "samples", "read", "cut_tokens",
    "audio_cut", "epoch", "joined", "skipped",
}  # fmt: skip
Entries = Sequence[dict[str, Any]]


def write_page(folder: Path) -> Path | None:
    """Write metrics.html of the run in `folder` from its lines; none where no step was done."""
    entries, evaluations = read_metrics(folder), read_evaluations(folder)
    if not entries:
        return None
    text = render("trainer.metrics", "metrics.html.j2", {
        "name": folder.resolve().name,
        "facts": facts(entries, evaluations),
        "left_out": dict(sorted(_left_out(entries).items())),
        "charts": charts(entries, evaluations),
        "size": {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
    })  # fmt: skip
    return publish(folder / PAGE, text)


def charts(entries: Entries, evaluations: Entries) -> tuple[Chart, ...]:
    """All charts that have something to show."""
    loss = [_one(entries, "loss", "all"), *_group(entries, "loss_by_modality")]
    held = [_one(evaluations, "loss", "all"), *_group(evaluations, "by_modality")]
    wait = [_one(entries, "data_wait", "step"), _one(entries, "data_wait_mean", "mean of late")]
    made = (
        make_chart("Loss", "a token, in nats", loss),
        make_chart("Loss by source", "a token, in nats", _group(entries, "loss_by_source")),
        make_chart("Held-out loss", "an answer's mean a token, in nats", held),
        make_chart("Held-out loss by category", "an answer's mean a token", _group(evaluations, "by_category")),
        make_chart("Held-out loss by source", "an answer's mean a token", _group(evaluations, "by_source")),
        make_chart("Answers that are right", "share of those generated", _right(evaluations)),
        make_chart("Error rates", "of generated transcripts; above 1 drawn as 1", _errors(evaluations)),
        make_chart("Learning rate", "", [_one(entries, "learning_rate", "rate")]),
        make_chart("Gradient norm", "before clipping", [_one(entries, "gradient_norm", "norm")]),
        make_chart("Tokens a second", "", [_one(entries, "tokens_per_second", "tokens")]),
        make_chart("Samples a second", "", [_one(entries, "samples_per_second", "samples")]),
        make_chart("Waiting for data", "share", [*wait, _one(entries, "data_wait_p99", "99% of steps under")]),
        make_chart("Utilisation (MFU)", "share of the device's peak", [_one(entries, "mfu", "MFU")]),
        make_chart("Arithmetic", "TFLOP a second", [_one(entries, "tflops", "achieved")]),
        make_chart("Rows", "share", [_one(entries, "padding", "padding"), _one(entries, "pack_fill", "pack fill")]),
        make_chart("Peak memory", "bytes", [_one(entries, "peak_memory_bytes", "so far")]),
        make_chart(
            "Time between steps",
            "seconds",
            [
                _one(entries, "checkpoint_stall", "stall of a checkpoint"),
                _one(entries, "evaluation_seconds", "evaluation"),
            ],
        ),
    )
    others = (
        make_chart(name.replace("_", " ").capitalize(), "", _both(entries, evaluations, name))
        for name in other_figures(entries)
    )
    return tuple(chart for chart in (*made, *others) if chart is not None)


def other_figures(entries: Entries) -> list[str]:
    """Names of numbers that no other chart shows: what a loss tells besides, such as a margin."""
    names = {name for entry in entries for name, value in entry.items() if type(value) in (int, float)}
    return sorted(names - SHOWN)


def facts(entries: Entries, evaluations: Entries) -> dict[str, str]:
    """The newest figures by name, as text."""
    newest, held = entries[-1], next((line for line in reversed(evaluations) if "loss" in line), {})
    exact = held.get("answers", {}).get("exact_match")
    waits = [entry for entry in entries if "data_wait" in entry and "seconds" in entry]
    seconds = sum(entry["seconds"] for entry in waits)
    waited = sum(entry["data_wait"] * entry["seconds"] for entry in waits)
    known: dict[str, Any] = {
        "step": f"{newest['step']:,}",
        "loss": _told(newest, "loss"),
        "held-out loss": _told(held, "loss"),
        "answers right": f"{exact:.0%}" if exact is not None else None,
        "tokens": newest.get("tokens"),
        "samples": newest.get("samples"),
        "waiting for data": f"{waited / seconds:.1%}" if seconds else None,
        "MFU": f"{newest['mfu']:.1%}" if is_number(newest.get("mfu")) else None,
        "skipped steps": sum(int(entry.get("skipped", 0)) for entry in entries) or None,
    }
    return {name: value if isinstance(value, str) else show_number(value) for name, value in known.items() if value}


def _told(line: dict[str, Any], name: str) -> Any:
    """A figure, or the word for what it is where it is no finite number; none where there is none."""
    value = line.get(name)
    return value if is_number(value) else line.get(NOT_FINITE, {}).get(name)


def render(package: str, template: str, values: dict[str, Any]) -> str:
    """A page from a template that lies beside the modules of `package`; everything in it is escaped."""
    import jinja2

    root, *folders = package.split(".")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(root, "/".join(folders)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def publish(path: Path, text: str) -> Path:
    """Write a file beside its place and move it there whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def _one(entries: Entries, field: str, name: str) -> Series:
    return _series(name, entries, lambda entry: entry.get(field))


def _both(entries: Entries, evaluations: Entries, name: str) -> list[Series]:
    told = [{"step": line["step"], **line.get("told", {})} for line in evaluations]
    return [_one(entries, name, "trained on"), _one(told, name, "held out")]


def _group(entries: Entries, field: str) -> list[Series]:
    keys = sorted({key for entry in entries for key in entry.get(field) or {}})
    return [_series(key, [e for e in entries if key in (e.get(field) or {})], _of(field, key)) for key in keys]


def _of(field: str, key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda entry: entry[field][key]


def _right(evaluations: Entries) -> list[Series]:
    answers = [{"step": line["step"], **line.get("answers", {})} for line in evaluations]
    return [_one(answers, "exact_match", "all"), *_group(answers, "exact_match_by_modality")]


def _errors(evaluations: Entries) -> list[Series]:
    answers = [{"step": line["step"], **line.get("answers", {})} for line in evaluations]
    capped = [
        {name: min(value, 1.0) if name in ERRORS and is_number(value) else value for name, value in each.items()}
        for each in answers
    ]
    return [_one(capped, name, title) for name, title in ERRORS.items()]


def _series(name: str, entries: Iterable[dict[str, Any]], value: Callable[[dict[str, Any]], Any]) -> Series:
    found = [(entry["step"], value(entry)) for entry in entries]
    return Series(name=name, points=tuple((step, y) for step, y in found if isinstance(y, int | float)))


def _left_out(entries: Entries) -> Counter[str]:
    total: Counter[str] = Counter()
    for entry in entries:
        total.update(entry.get("left_out", {}))
    return total
