"""Classes of licences, their sums over a dataset, and policies that refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardkit import BuildSpec, SpecError, build_dataset, convert_spec, open_dataset
from shardkit.cli.main import app
from shardkit.curate.licences import sum_licences
from shardkit.errors import PolicyRefused
from shardkit.spec.licences import LICENCE_CLASSES, classify, is_allowed


@pytest.mark.parametrize(
    ("licence", "wanted"),
    [
        ("mit", "free"), ("Apache-2.0", "free"), ("cc-by-4.0", "free"), ("odc-by", "free"), ("psf-2.0", "free"),
        ("cc-by-sa-4.0", "share-alike"), ("gpl-3.0", "share-alike"), ("AGPL-3.0-or-later", "share-alike"),
        ("mpl-2.0", "share-alike"), ("cc-by-nc-4.0", "non-commercial"), ("cc-by-nc-sa-4.0", "non-commercial"),
        ("research only", "research"), ("", "unknown"), ("other", "unknown"), ("llama3", "unknown"),
        ("MIT OR Apache-2.0", "free"), ("gpl-2.0 OR mit", "free"), ("mit AND cc-by-nc-4.0", "non-commercial"),
        ("mit, gpl-3.0", "share-alike"), ("sustainable-use", "unknown"), ("commitment", "unknown"),
    ],
)  # fmt: skip
def test_a_licence_has_its_class(licence: str, wanted: str) -> None:
    assert classify(licence) == wanted and wanted in LICENCE_CLASSES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("licences") / "data"
    sources = [
        {"kind": "generated", "name": name, "generator": "notes", "normalizer": "question_answer", "count": 5,
         "seed": at, "licence": licence}
        for at, (name, licence) in enumerate([("one", "mit"), ("two", "cc-by-nc-4.0"), ("three", "")])
    ]  # fmt: skip
    build_dataset(convert_spec({"name": "licences", "sources": sources}, BuildSpec, "test"), out=out, workers=0)
    return out


def test_sums_name_every_licence_of_every_source(folder: Path) -> None:
    report = sum_licences(open_dataset(folder))
    assert [(entry.licence, entry.source, entry.samples) for entry in report.licences] == [
        ("", "three", 5), ("cc-by-nc-4.0", "two", 5), ("mit", "one", 5),
    ]  # fmt: skip
    assert not report.refused and all(entry.bytes > 0 for entry in report.licences)


def test_a_policy_names_what_it_does_not_allow(folder: Path) -> None:
    report = sum_licences(open_dataset(folder), ["free", "cc-by-nc-4.0"])
    assert [entry.source for entry in report.refused] == ["three"]
    with pytest.raises(SpecError, match="no class"):
        sum_licences(open_dataset(folder), ["fre"])


def test_the_command_fails_under_a_policy(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PolicyRefused, match="two: cc-by-nc-4"):
        app(["licences", str(folder), "--allow", "free"], standalone_mode=False)
    assert PolicyRefused.exit_code == 1 and "not allowed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("licence", "policy", "allowed"),
    [
        ("MIT", ("mit",), True),
        ("mit", ("MIT",), True),
        ("mit, gpl-3.0", ("mit",), False),
        ("mit, gpl-3.0", ("mit", "gpl-3.0"), True),
        ("mit AND gpl-3.0", ("free", "gpl-3.0"), True),
        ("gpl-3.0 OR own-1", ("own-1",), True),
        ("own-1", ("free", "share-alike"), False),
        ("", ("free",), False),
        ("", ("unknown",), True),
    ],
)
def test_a_policy_takes_several_licences_where_it_takes_each(
    licence: str, policy: tuple[str, ...], allowed: bool
) -> None:
    assert is_allowed(licence, policy) is allowed
