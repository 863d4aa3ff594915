"""Builds from a Hub, by the command line and in this process: samples, failures that say what to do, resumes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from shardkit.build.run import build
from shardkit.errors import PartlyDone, SourceFailed
from shardkit.read.dataset import open_dataset
from shardkit.sources.hub import source as hub_source
from tests.build.making import run_command, save_spec, spec_of
from tests.servers.hub import OTHER_TOKEN, TOKEN, Hub, hub_server
from tests.sources.hub.repositories import NAME, REPOSITORIES, parquet, tar
from tests.store.buckets import use_environment

LONG = [{"question": f"{number}?", "answer": "word " * 400} for number in range(200)]
LONG_FILES: dict[str, dict[str, bytes]] = {
    "jsonl": {"train.jsonl": b"".join(msgspec.json.encode(row) + b"\n" for row in LONG)},
    "json": {"train.json": msgspec.json.encode(LONG)},
    "csv": {
        "train.csv": "".join(["question,answer\n", *(f"{row['question']},{row['answer']}\n" for row in LONG)]).encode()
    },
    "parquet": {
        f"data/train-0000{part}-of-00004.parquet": parquet(LONG[part::4], 10, compression="none", use_dictionary=False)
        for part in range(4)
    },
    "tar": {"train.tar": tar({f"{number}.json": msgspec.json.encode(row) for number, row in enumerate(LONG)})},
}


def png(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("L", (8, 8), shade).save(out, "png")
    return out.getvalue()


def source(name: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "hub", "name": name, "dataset": NAME, "normalizer": "question_answer", **fields}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_server({}) as server:
        use_environment(monkeypatch, HF_ENDPOINT=server.url)
        yield server


def test_five_samples_of_every_format(hub: Hub, tmp_path: Path) -> None:
    sources = []
    for kind in ("parquet", "jsonl", "json", "csv", "tar"):
        hub.commit(f"owner/{kind}", {**LONG_FILES[kind], "README.md": "# text"})
        sources.append(source(kind, dataset=f"owner/{kind}"))
    pictures = [{"image": {"bytes": png(9 * at), "path": None}, "text": f"Shade {at}."} for at in range(9)]
    hub.commit("owner/pictures", {"train.parquet": parquet(pictures)})
    sources.append(source("pictures", dataset="owner/pictures", normalizer="caption"))
    hub.renamed["old/csv"] = "owner/csv"
    sources[3]["dataset"] = "old/csv"
    hub.large_bytes = 1000
    spec = save_spec(tmp_path / "x.yaml", spec_of(*sources, duplicates="keep"))
    done = run_command("build", spec, "--sample", "5", "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["samples"] == 30
    dataset = open_dataset(tmp_path / "out")
    plan = {entry.name: entry for entry in dataset.manifest.plan.sources}
    assert plan["csv"].decision == "old/csv is called owner/csv on the Hub now"
    assert plan["jsonl"].revision == hub.head("owner/jsonl")
    assert "endpoint" not in plan["jsonl"].config
    assert len(dataset) == 30
    assert not dataset.verify().damages


def test_samples_through_datasets(hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    hub.commit(NAME, {**LONG_FILES["jsonl"], "README.md": "# text"})
    spec = save_spec(tmp_path / "x.yaml", spec_of(source("through", reader="datasets")))
    hub.faults = ["", "", "cut", "", "503", "cut"]
    done = run_command(
        "build", spec, "--sample", "5", "--json", "--out", tmp_path / "out", HF_HOME=str(tmp_path / "hf")
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["samples"] == 5
    [entry] = open_dataset(tmp_path / "out").manifest.plan.sources
    assert entry.revision == hub.head(NAME)
    assert "datasets" in entry.toolchain
    assert not hub.faults
    held = sum(path.stat().st_size for path in (tmp_path / "hf").rglob("*") if path.is_file())
    assert held < 10_000  # the README, and nothing of the data


@pytest.mark.parametrize("kind", LONG_FILES)
def test_build_that_is_cut_off_again_and_again_ends_the_same(
    kind: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(source("long"))
    hub.commit(NAME, LONG_FILES[kind])
    whole = build(spec, out=tmp_path / "whole", workers=0)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(hub_source, "PATIENCE", msgspec.structs.replace(hub_source.PATIENCE, attempts=2))
    stops = 0
    for good in range(2, 80, 2):
        hub.faults = [*[""] * good, "cut", *["503"] * 40]
        try:
            last = build(spec, out=tmp_path / "cut", workers=0)
        except (PartlyDone, SourceFailed):
            stops += 1
        else:
            break
    assert stops > 0
    assert last.version == whole.version
    assert last.samples == 200


def test_refusals_end_the_command_and_name_no_token(hub: Hub, tmp_path: Path) -> None:
    hub.commit(NAME, REPOSITORIES["jsonl"])
    spec = save_spec(tmp_path / "x.yaml", spec_of(source("questions")))
    command = ("build", spec, "--sample", "5", "--out", tmp_path / "out")
    hub.gated.add(NAME)
    for token, message in (("", "accept its conditions at"), (OTHER_TOKEN, "has not been let in")):
        refused = run_command(*command, HF_TOKEN=token)
        assert refused.returncode == 3
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
        assert "canary" not in refused.stdout + refused.stderr
    done = run_command(*command, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    found = [path for path in tmp_path.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]
    assert found == []
    assert "canary" not in done.stdout + done.stderr
