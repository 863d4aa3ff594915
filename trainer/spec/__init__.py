"""Run specs: what to train, on what and how, as frozen structs that refuse typos and impossible values."""

from trainer.spec.base import Config, Modality, Strict
from trainer.spec.chain import stage_folder, stage_runs
from trainer.spec.data import DataSpec, MixSpec, PackSpec, SourceSpec, TokenizerSpec, WeightsSpec
from trainer.spec.fusion import FusionSpec, HeadsSpec
from trainer.spec.layers import Resolved, load_run, resolve_run, settings_path
from trainer.spec.model import EncoderSpec, HearingSpec, LanguageSpec, LoraSpec, ModelSpec, VisionSpec
from trainer.spec.run import RunSpec, spec_digest_fields, without_secrets
from trainer.spec.stages import Part, StageSpec
from trainer.spec.training import (
    PREFERENCES,
    CheckpointSpec,
    DistilSpec,
    EvalSpec,
    FailureSpec,
    LossSpec,
    MetricsSpec,
    OptimizerSpec,
    PreferenceSpec,
    SpeedSpec,
)

__all__ = [
    "PREFERENCES",
    "CheckpointSpec",
    "Config",
    "DataSpec",
    "DistilSpec",
    "EncoderSpec",
    "EvalSpec",
    "FailureSpec",
    "FusionSpec",
    "HeadsSpec",
    "HearingSpec",
    "LanguageSpec",
    "LoraSpec",
    "LossSpec",
    "MetricsSpec",
    "MixSpec",
    "Modality",
    "ModelSpec",
    "OptimizerSpec",
    "PackSpec",
    "Part",
    "Resolved",
    "PreferenceSpec",
    "RunSpec",
    "SourceSpec",
    "SpeedSpec",
    "StageSpec",
    "Strict",
    "TokenizerSpec",
    "VisionSpec",
    "WeightsSpec",
    "load_run",
    "resolve_run",
    "settings_path",
    "spec_digest_fields",
    "stage_folder",
    "stage_runs",
    "without_secrets",
]
