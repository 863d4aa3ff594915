"""The table of models.

Here: which model a spec names.
Elsewhere: the models (omni.py, fusion.py).
"""

from __future__ import annotations

from typing import TypeAlias

from trainer.data.tokenise import Speech
from trainer.model.fusion import Fusion
from trainer.model.omni import Omni
from trainer.spec import ModelSpec

Model: TypeAlias = Omni | Fusion

MODELS: dict[str, type[Omni] | type[Fusion]] = {"omni": Omni, "fusion": Fusion}


def make_model(spec: ModelSpec, speech: Speech) -> Model:
    """The model that a spec names, with random or pretrained weights. Raises SpecError where its parts do not fit."""
    return MODELS[spec.kind](spec, speech)
