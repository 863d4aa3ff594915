"""What `shardkit` exports is a decision: adding or removing a name means changing the list here."""

from __future__ import annotations
import __future__

import inspect
import types

import pytest

import shardkit

PUBLIC_NAMES = (
    "Batch",
    "Buckets",
    "BuildResult",
    "BuildSpec",
    "Cost",
    "Dataset",
    "Interrupted",
    "Item",
    "Loader",
    "LoaderSpec",
    "Mark",
    "Message",
    "Mix",
    "Mixture",
    "Moment",
    "NotADataset",
    "NothingToPack",
    "Pack",
    "Packed",
    "PackedBatch",
    "PackedLoader",
    "Refused",
    "Sample",
    "ShardDamaged",
    "ShardkitError",
    "Skipped",
    "SpecError",
    "StateConflict",
    "__version__",
    "build_dataset",
    "convert_spec",
    "decode_image",
    "decode_images",
    "exit_codes",
    "keyframes_near",
    "load_spec",
    "open_dataset",
    "open_loader",
    "parse_settings",
    "parse_yaml",
    "prepare_sample",
    "read_mapping",
    "scrub",
    "sound_between",
    "split_marks",
    "unescape_marks",
)


def test_public_names_are_the_list() -> None:
    assert sorted(shardkit.__all__) == sorted(PUBLIC_NAMES)


def test_dir_shows_the_public_names_and_nothing_else() -> None:
    shown = {name for name in dir(shardkit) if not name.startswith("_") and not is_incidental(name)}
    assert shown == {name for name in PUBLIC_NAMES if not name.startswith("_")}


def is_incidental(name: str) -> bool:
    """Tell rooms that something has imported, and `annotations` of __future__, from exports."""
    return name not in shardkit.__all__ and isinstance(vars(shardkit).get(name), types.ModuleType | __future__._Feature)


@pytest.mark.parametrize("name", [name for name in PUBLIC_NAMES if not name.startswith("_")])
def test_public_name_exists_and_has_a_docstring(name: str) -> None:
    value = exported(name)
    assert not isinstance(value, types.ModuleType), f"shardkit.{name} is hidden by a module of the same name"
    assert inspect.getdoc(value), f"shardkit.{name} has no docstring"


def exported(name: str) -> object:
    try:
        return getattr(shardkit, name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("shardkit."):
            pytest.skip(f"{error.name} is not written yet")
        raise
