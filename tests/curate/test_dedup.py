"""Deduplication of real datasets: what goes, what stays and why, from any number of processes, after any kill."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shardkit import open_dataset, open_loader
from shardkit.curate import clusters, fingerprints, table
from shardkit.curate.card import has_card
from shardkit.curate.dedup import DedupResult, How, dedup, find, near_labels, open_one
from shardkit.curate.scratch import Scratch
from shardkit.curate.split import split_dataset
from shardkit.errors import Locked, SpecError, StorageFailed
from shardkit.records.row import Prepared
from shardkit.report.lineage import trace_sample
from shardkit.spec import DedupOptions, SplitOptions, convert_spec
from shardkit.store import fs
from shardkit.store.faults import Fault, Faults, Setting
from shardkit.store.manifest import read_split
from shardkit.store.publish import lock
from shardkit.store.reasons import Reason, read_reasons
from shardkit.store.recovery import plan_gc
from tests.build.making import was_killed
from tests.curate.making import chat, heard, jpeg, make, noise, photo, png, seen, texts, wave
from tools.bench.dedup_texts import KINDS, make_texts

EVERYTHING = DedupOptions()


def run(root: Path, options: DedupOptions = EVERYTHING, workers: int = 1) -> DedupResult:
    return dedup(str(root), options, How(workers=workers))


def left(root: Path, samples: Sequence[Prepared]) -> list[int]:
    """The positions, in `samples`, of those that the current version has."""
    ids = {item.sample.id for item in open_one(root)}
    return [at for at, sample in enumerate(samples) if sample.sample.id in ids]


def stays(tmp_path: Path, samples: Sequence[Prepared], options: DedupOptions = EVERYTHING) -> list[int]:
    make(tmp_path / "data", samples, shards=min(2, len(samples)))
    run(tmp_path / "data", options)
    return left(tmp_path / "data", samples)


def reasons_of(root: Path) -> dict[int, Reason]:
    """Position in the dataset's stored order -> why it was left out."""
    dataset = open_one(root)
    found = read_reasons(dataset.store, dataset.manifest)
    assert found is not None
    before = np.concatenate(([0], np.cumsum([entry.samples for entry in dataset.manifest.shards])))
    return {int(before[shard]) + ordinal: reason for shard, ordinal, reason in found.all()}


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[int]]:
    """A dataset of 600 texts in five shards, how each was made, what each is a copy of."""
    root = tmp_path_factory.mktemp("planted") / "data"
    made = list(make_texts(600, seed=11))
    make(root, [chat(at, text.text) for at, text in enumerate(made)], shards=5)
    return root, [text.kind for text in made], [text.of for text in made]


def test_planted_copies_of_every_kind_go_and_nothing_else(
    planted: tuple[Path, list[str], list[int]], tmp_path: Path
) -> None:
    root, kinds, originals = planted
    before = open_one(root)
    shutil.copytree(root, tmp_path / "data")
    done = run(tmp_path / "data")
    wanted = [at for at, kind in enumerate(kinds) if kind in KINDS]
    assert set(kinds) >= {*KINDS, "too far", "framed"}
    found = reasons_of(tmp_path / "data")
    assert sorted(found) == wanted
    assert all(reason.of == divmod(originals[at], 120) for at, reason in found.items())
    assert all(0.8 <= reason.similarity <= 1 for reason in found.values())
    assert (done.omitted, done.samples) == (len(wanted), 600 - len(wanted))
    after = open_one(tmp_path / "data")
    assert (after.version, after.manifest.parent) == (done.version, before.version)
    assert after.verify().damages == () and not plan_gc(tmp_path / "data").files
    assert after.manifest.shards == before.manifest.shards


def test_readers_see_fewer_and_the_old_version_as_it_was(
    planted: tuple[Path, list[str], list[int]], tmp_path: Path
) -> None:
    root, kinds, _ = planted
    shutil.copytree(root, tmp_path / "data")
    done = run(tmp_path / "data")
    wanted = {at for at, kind in enumerate(kinds) if kind not in KINDS}
    loaded = [
        item.sample.id for batch in open_loader(open_one(tmp_path / "data"), batch_size=7, lanes=4) for item in batch
    ]
    assert {int(name[1:]) for name in loaded} <= wanted and len(loaded) >= len(wanted) - 7
    assert [item.sample.id for item in open_dataset(tmp_path / "data", done.parent)] == [f"t{at}" for at in range(600)]
    totals = open_one(tmp_path / "data").manifest.totals
    characters = sum(len(item.sample.messages[0].content) for item in open_one(tmp_path / "data"))
    assert totals.sums.text_characters == characters
    assert (totals.samples, totals.by_modality) == (len(wanted), {"text": len(wanted)})


def test_lineage_and_card_say_why(planted: tuple[Path, list[str], list[int]], tmp_path: Path) -> None:
    shutil.copytree(planted[0], tmp_path / "data")
    before = open_one(tmp_path / "data")
    done = run(tmp_path / "data")
    at, reason = next(iter(reasons_of(tmp_path / "data").items()))
    assert reason.of is not None
    after = open_one(tmp_path / "data")
    traced = trace_sample(after, before[at].key)
    kept = before[reason.of[0] * 120 + reason.of[1]].key
    assert (traced.versions[0].present, traced.versions[1].present) == (False, True)
    assert traced.versions[0].why == f"near-duplicate ({reason.similarity:.1%}) of {kept}"
    assert traced.versions[0].why in traced.text() and not traced.versions[1].why
    card = (tmp_path / "data" / "cards" / f"{done.version}.md").read_text()
    assert f"| near-duplicate | {done.near_duplicates} |" in card and "R-MinHash" in card


def test_a_second_run_changes_nothing(planted: tuple[Path, list[str], list[int]], tmp_path: Path) -> None:
    shutil.copytree(planted[0], tmp_path / "data")
    first, again = run(tmp_path / "data"), run(tmp_path / "data")
    assert again.unchanged and not first.unchanged
    assert (again.version, again.parent, again.omitted) == (first.version, first.parent, 0)


@pytest.mark.parametrize(("workers", "batch"), [(1, 5), (3, 512)])
def test_processes_and_chunks_do_not_change_the_version(
    planted: tuple[Path, list[str], list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    batch: int,
) -> None:
    shutil.copytree(planted[0], tmp_path / "one")
    shutil.copytree(planted[0], tmp_path / "other")
    wanted = run(tmp_path / "one").version
    monkeypatch.setattr(fingerprints, "BATCH_SAMPLES", batch)
    monkeypatch.setattr(table, "WAITING_BANDS", 100)
    monkeypatch.setattr(clusters, "ROWS_HELD", 50)
    assert run(tmp_path / "other", workers=workers).version == wanted
    assert not [path for path in (tmp_path / "other" / ".build").iterdir() if path.name != "lock"]


def forked(root: Path, setting: Setting) -> int:
    """Deduplicate in a child that meets a fault; its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            fs.observe(Faults(setting))
            run(root)
            code = 0
        except StorageFailed:
            code = 3
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize("fault", ["kill", "flip", "torn"])
def test_whatever_happens_on_the_way_running_again_ends_with_the_same_version(tmp_path: Path, fault: Fault) -> None:
    samples = [chat(at, text.text) for at, text in enumerate(make_texts(60, seed=2))]
    make(tmp_path / "data", samples)
    shutil.copytree(tmp_path / "data", tmp_path / "wanted")
    wanted = run(tmp_path / "wanted").version
    counter = Faults()
    before = fs.observe(counter)
    try:
        shutil.copytree(tmp_path / "data", tmp_path / "counted")
        run(tmp_path / "counted")
    finally:
        fs.observe(before)
    assert counter.calls > 30
    for at in range(1, counter.calls + 1, 2 if fault == "kill" else 5):
        root = tmp_path / f"run-{at}"
        shutil.copytree(tmp_path / "data", root)
        status = forked(root, Setting(fault=fault, at=at))
        assert was_killed(status) if fault == "kill" else os.waitstatus_to_exitcode(status) in (0, 3)
        assert run(root).version == wanted, f"{fault} at call {at}"
        assert open_one(root).verify().damages == () and not plan_gc(root).files
        assert has_card(root, wanted)
        shutil.rmtree(root)


@pytest.mark.parametrize("fault", ["flip", "torn"])
def test_a_disk_that_does_not_keep_what_is_written_is_noticed(tmp_path: Path, fault: Fault) -> None:
    before = fs.observe(Faults(Setting(fault=fault, at=3)))  # the file is made, then written twice
    try:
        file = Scratch(tmp_path, "rows")
        file.append(b"x" * 100)
        file.append(b"y" * 100)
        with pytest.raises(StorageFailed, match="does not hold what was written"):
            file.seal()
        file.remove()
    finally:
        fs.observe(before)
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "BATCH_SAMPLES", 64)
    monkeypatch.setattr(table, "WAITING_BANDS", 4000)
    monkeypatch.setattr(table, "PARTITION_BANDS", 4000)
    monkeypatch.setattr(clusters, "ROWS_HELD", 200)
    peaks = []
    for count in (500, 500, 2500):
        root = tmp_path / f"data-{len(peaks)}"
        make(root, [chat(at, text) for at, text in enumerate(texts(count, words=20))], shards=count // 100)
        dataset = open_one(root)
        assert sum(1 for _ in dataset) == count  # indexes are in the reader's own cache, which has its own bound
        tracemalloc.start()
        find(dataset, EVERYTHING, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.5 * peaks[1], f"{peaks}: five times the samples, wanted about the same memory"


def test_a_dataset_that_is_in_use_or_elsewhere_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path / "data", [chat(0, "a b c d"), chat(1, "A B C D")])
    with lock(tmp_path / "data"), pytest.raises(Locked):
        run(tmp_path / "data")
    with pytest.raises(SpecError, match="URL"):
        dedup("https://host/data", EVERYTHING)


def test_case_and_roles_make_no_copy_but_answers_do(tmp_path: Path) -> None:
    question, answer, other = texts(3, words=30)
    samples = [
        chat(0, question, answer),
        chat(1, question.upper(), answer.title()),
        chat(2, question, other),
        chat(3, question, answer, preference=(other, question)),
    ]
    assert stays(tmp_path, samples) == [0, 2, 3]


def test_the_systems_words_are_not_compared(tmp_path: Path) -> None:
    (system,), questions = texts(1, words=300), texts(3, seed=1, words=10)
    samples = [chat(at, question, system=system) for at, question in enumerate(questions)]
    assert stays(tmp_path, samples) == [0, 1, 2]


def test_equal_keys_are_called_duplicates(tmp_path: Path) -> None:
    text, other = texts(2)
    make(tmp_path / "data", [chat(0, text), chat(1, other), chat(2, text), chat(3, text + " more")], shards=2)
    run(tmp_path / "data")
    found = reasons_of(tmp_path / "data")
    assert {at: reason.reason for at, reason in found.items()} == {2: "duplicate", 3: "near-duplicate"}
    assert found[2].of == found[3].of == (0, 0)


def test_photos_are_near_by_their_shapes_and_questions_about_one_photo_stay(tmp_path: Path) -> None:
    picture, question, other = photo(1), *texts(2, words=12)
    samples = [
        seen(0, png(picture), question),
        seen(1, jpeg(picture, 60), question),
        seen(2, png(picture), other),
        seen(3, png(photo(2)), question),
        seen(4, jpeg(picture.resize((64, 64)), 80)),
    ]
    assert stays(tmp_path, samples) == [0, 2, 3, 4]
    shutil.rmtree(tmp_path / "data")
    assert stays(tmp_path, samples, DedupOptions(compare=("images",))) == [0, 3]


def test_screenshots_go_only_where_every_pixel_is_the_same(tmp_path: Path) -> None:
    page, question = photo(3, 200), "What is the total?"
    other = page.copy()
    other.putpixel((17, 30), (0, 0, 0))
    samples = [
        seen(0, png(page), question, "screenshot"),
        seen(1, png(page, level=1), question, "screenshot"),
        seen(2, png(other), question, "screenshot"),
        seen(3, png(page), question, "photo"),
    ]
    assert stays(tmp_path, samples) == [0, 2, 3]


def test_recordings_go_where_their_samples_are_the_same(tmp_path: Path) -> None:
    samples = [
        heard(0, wave(noise(1), 0.1), "What is said?"),
        heard(1, wave(noise(1), 0.9), "what is said"),
        heard(2, wave(noise(2)), "What is said?"),
        heard(3, wave(noise(1)), "Who speaks?"),
    ]
    assert stays(tmp_path, samples) == [0, 2, 3]
    shutil.rmtree(tmp_path / "data")
    assert stays(tmp_path, samples, DedupOptions(compare=("audio",))) == [0, 2]
    shutil.rmtree(tmp_path / "data")
    assert stays(tmp_path, samples, DedupOptions(compare=("text",))) == [0, 3]


def test_labels_name_the_first_of_each_cluster(tmp_path: Path) -> None:
    one, two, three = texts(3)
    samples = [chat(0, one), chat(1, two), chat(2, one.upper()), seen(3, png(photo(1))), chat(4, three)]
    samples.append(chat(5, two + "!"))
    make(tmp_path / "data", samples, shards=3)
    dataset = open_one(tmp_path / "data")
    keys = [item.key for item in dataset]
    assert near_labels(dataset) == {(0, 0): keys[0], (1, 0): keys[0], (0, 1): keys[1], (2, 1): keys[1]}
    assert near_labels(dataset, DedupOptions(compare=("audio",))) == {}
    split = SplitOptions(ratios={"train": 0.5, "test": 0.5}, near=True)
    split_dataset(tmp_path / "data", split, near_labels(dataset))
    divided = read_split(open_one(tmp_path / "data").store, open_one(tmp_path / "data").manifest)
    assert divided is not None
    sides = [divided.of_shard(shard, 2)[1].tolist() for shard in range(3)]
    assert sides[0][0] == sides[1][0] and sides[0][1] == sides[2][1]


def test_what_the_parent_left_out_stays_out_and_reasons_add_up(tmp_path: Path) -> None:
    one, two, three = texts(3)
    samples = [chat(0, one), chat(1, one.upper()), seen(2, png(photo(1)), two), seen(3, png(photo(1), 1), three)]
    make(tmp_path / "data", samples, shards=2)
    first = run(tmp_path / "data", DedupOptions(compare=("text",)))
    second = run(tmp_path / "data", DedupOptions(compare=("images",)))
    assert left(tmp_path / "data", samples) == [0, 2]
    assert second.parent == first.version
    dataset = open_one(tmp_path / "data")
    found = read_reasons(dataset.store, dataset.manifest)
    assert found is not None and dataset.manifest.step is not None
    assert dataset.manifest.step.options == {"compare": ["images"], "images": "pHash 64, radius 6"}
    assert [(shard, ordinal, reason.of) for shard, ordinal, reason in found.all()] == [(0, 1, (0, 0)), (1, 1, (1, 0))]
    assert found.find(0, 0) is None and found.find(5, 0) is None
    assert dataset.manifest.totals.omitted == 2 and dataset.verify().damages == ()


@pytest.mark.parametrize(
    "options", [{"threshold": 0.3}, {"threshold": 1.5}, {"run_words": 2}, {"compare": []}, {"compare": ["smell"]}]
)
def test_options_out_of_their_bounds_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        convert_spec(options, DedupOptions, "test")
