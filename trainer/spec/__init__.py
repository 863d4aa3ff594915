"""Run specs: what to train, on what and how, as frozen structs that refuse typos and impossible values."""

from trainer.spec.base import Config, Modality, Strict
from trainer.spec.data import DataSpec, MixSpec, PackSpec, SourceSpec, TokenizerSpec, WeightsSpec
from trainer.spec.fusion import FusionSpec, HeadsSpec
from trainer.spec.model import EncoderSpec, HearingSpec, LanguageSpec, LoraSpec, ModelSpec, VisionSpec
from trainer.spec.run import RunSpec, load_run, spec_digest_fields, without_secrets
from trainer.spec.training import (
    PREFERENCES,
    CheckpointSpec,
    DistilSpec,
    EvalSpec,
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
    "PreferenceSpec",
    "RunSpec",
    "SourceSpec",
    "SpeedSpec",
    "Strict",
    "TokenizerSpec",
    "VisionSpec",
    "WeightsSpec",
    "load_run",
    "spec_digest_fields",
    "without_secrets",
]
