"""Stream any source into content-addressed WebDataset shards, and read them back exactly.

Here: the public names, imported on first use so that `import shardkit` stays cheap.
Elsewhere: everything; see the rooms' own docstrings.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardkit.build.run import BuildResult as BuildResult
    from shardkit.curate.build import build as build_dataset
    from shardkit.errors import NotADataset as NotADataset
    from shardkit.errors import NothingToPack as NothingToPack
    from shardkit.errors import Refused as Refused
    from shardkit.errors import ShardDamaged as ShardDamaged
    from shardkit.errors import ShardkitError as ShardkitError
    from shardkit.errors import SpecError as SpecError
    from shardkit.errors import StateConflict as StateConflict
    from shardkit.exits import Interrupted as Interrupted
    from shardkit.exits import exit_codes as exit_codes
    from shardkit.exits import parse_settings as parse_settings
    from shardkit.media.given import prepare_sample as prepare_sample
    from shardkit.media.moments import Moment as Moment
    from shardkit.media.moments import keyframes_near as keyframes_near
    from shardkit.media.moments import sound_between as sound_between
    from shardkit.media.pixels import decode_image as decode_image
    from shardkit.media.pixels import decode_images as decode_images
    from shardkit.read.batch import Skipped as Skipped
    from shardkit.read.dataset import Dataset as Dataset
    from shardkit.read.dataset import Item as Item
    from shardkit.read.dataset import open_dataset as open_dataset
    from shardkit.read.loader import Batch as Batch
    from shardkit.read.loader import Loader as Loader
    from shardkit.read.loader import open_loader as open_loader
    from shardkit.read.mix import Mix as Mix
    from shardkit.read.mixture import Mixture as Mixture
    from shardkit.read.pack import Buckets as Buckets
    from shardkit.read.pack import Cost as Cost
    from shardkit.read.pack import Pack as Pack
    from shardkit.read.packed import Packed as Packed
    from shardkit.read.packed import PackedBatch as PackedBatch
    from shardkit.read.packed import PackedLoader as PackedLoader
    from shardkit.read.spec import LoaderSpec as LoaderSpec
    from shardkit.records.marks import Mark as Mark
    from shardkit.records.marks import split_marks as split_marks
    from shardkit.records.marks import unescape_marks as unescape_marks
    from shardkit.records.sample import Message as Message
    from shardkit.records.sample import Sample as Sample
    from shardkit.spec import BuildSpec as BuildSpec
    from shardkit.spec import convert_spec as convert_spec
    from shardkit.spec import load_spec as load_spec
    from shardkit.spec import parse_yaml as parse_yaml
    from shardkit.spec import read_mapping as read_mapping
    from shardkit.store.scrub import scrub as scrub

_HOMES = {
    "BuildResult": "shardkit.build.run",
    "build_dataset": "shardkit.curate.build:build",
    "NotADataset": "shardkit.errors",
    "NothingToPack": "shardkit.errors",
    "Refused": "shardkit.errors",
    "ShardDamaged": "shardkit.errors",
    "ShardkitError": "shardkit.errors",
    "SpecError": "shardkit.errors",
    "StateConflict": "shardkit.errors",
    "Interrupted": "shardkit.exits",
    "exit_codes": "shardkit.exits",
    "parse_settings": "shardkit.exits",
    "prepare_sample": "shardkit.media.given",
    "Moment": "shardkit.media.moments",
    "keyframes_near": "shardkit.media.moments",
    "sound_between": "shardkit.media.moments",
    "decode_image": "shardkit.media.pixels",
    "decode_images": "shardkit.media.pixels",
    "Skipped": "shardkit.read.batch",
    "Dataset": "shardkit.read.dataset",
    "Item": "shardkit.read.dataset",
    "open_dataset": "shardkit.read.dataset",
    "Batch": "shardkit.read.loader",
    "Loader": "shardkit.read.loader",
    "open_loader": "shardkit.read.loader",
    "Mix": "shardkit.read.mix",
    "Mixture": "shardkit.read.mixture",
    "Buckets": "shardkit.read.pack",
    "Cost": "shardkit.read.pack",
    "Pack": "shardkit.read.pack",
    "Packed": "shardkit.read.packed",
    "PackedBatch": "shardkit.read.packed",
    "PackedLoader": "shardkit.read.packed",
    "LoaderSpec": "shardkit.read.spec",
    "Mark": "shardkit.records.marks",
    "split_marks": "shardkit.records.marks",
    "unescape_marks": "shardkit.records.marks",
    "Message": "shardkit.records.sample",
    "Sample": "shardkit.records.sample",
    "BuildSpec": "shardkit.spec",
    "convert_spec": "shardkit.spec",
    "load_spec": "shardkit.spec",
    "parse_yaml": "shardkit.spec",
    "read_mapping": "shardkit.spec",
    "scrub": "shardkit.store.scrub",
}
__all__ = [
    "__version__",
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
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'shardkit' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
