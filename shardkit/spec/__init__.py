"""Build specs: what a user writes in YAML, as frozen structs that refuse typos and impossible values.

Here: the door to the structs and to loading them.
Elsewhere: YAML and what is wrong with it (plain.py), making a spec concrete (build.plan).
"""

from shardkit.plain import convert_spec as convert_spec
from shardkit.plain import parse_yaml as parse_yaml
from shardkit.plain import read_mapping as read_mapping
from shardkit.spec.archives import Archive as Archive
from shardkit.spec.base import NAME as NAME
from shardkit.spec.base import AudioOptions as AudioOptions
from shardkit.spec.base import Codec as Codec
from shardkit.spec.base import ImageOptions as ImageOptions
from shardkit.spec.base import Limits as Limits
from shardkit.spec.base import MediaOptions as MediaOptions
from shardkit.spec.base import Strict as Strict
from shardkit.spec.base import VideoOptions as VideoOptions
from shardkit.spec.build import BuildSpec as BuildSpec
from shardkit.spec.curation import EVERYTHING as EVERYTHING
from shardkit.spec.curation import HELD_OUT as HELD_OUT
from shardkit.spec.curation import BenchmarkSource as BenchmarkSource
from shardkit.spec.curation import Compared as Compared
from shardkit.spec.curation import DedupOptions as DedupOptions
from shardkit.spec.curation import SplitOptions as SplitOptions
from shardkit.spec.gather import Gather as Gather
from shardkit.spec.kinds import AnySource as AnySource
from shardkit.spec.loading import apply_settings as apply_settings
from shardkit.spec.loading import load_named as load_named
from shardkit.spec.loading import load_spec as load_spec
from shardkit.spec.loading import open_spec as open_spec
from shardkit.spec.local import CsvSource as CsvSource
from shardkit.spec.local import FilesSource as FilesSource
from shardkit.spec.local import GeneratedSource as GeneratedSource
from shardkit.spec.local import GitSource as GitSource
from shardkit.spec.local import JsonlSource as JsonlSource
from shardkit.spec.local import JsonSource as JsonSource
from shardkit.spec.local import ParquetSource as ParquetSource
from shardkit.spec.local import PlainSource as PlainSource
from shardkit.spec.local import ShardsSource as ShardsSource
from shardkit.spec.remote import GithubIssuesSource as GithubIssuesSource
from shardkit.spec.remote import HttpSource as HttpSource
from shardkit.spec.remote import HubSource as HubSource
from shardkit.spec.remote import KaggleSource as KaggleSource
from shardkit.spec.remote import RemoteSource as RemoteSource
from shardkit.spec.remote import format_of as format_of
from shardkit.spec.rules import Rules as Rules
from shardkit.spec.schema import spec_schema as spec_schema
from shardkit.spec.source import SourceSpec as SourceSpec
