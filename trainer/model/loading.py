"""Models of transformers, from a config or from pretrained weights, with errors that name the spec's field.

Here: reading configs and weights, making models of given sizes.
Elsewhere: which models (eyes.py, encoders.py, language.py).
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from shardkit import SpecError
from trainer.digests import check_digests
from trainer.pickles import ADVICE, find_pickle
from trainer.spec import Config

OLD_NAMES = ("rope_theta", "rope_scaling", "torch_dtype")
"""Fields of configs that transformers still takes and stores under other names."""


def read_config(name: str, field: str) -> Any:
    """The config in a folder or of a Hugging Face id; raises SpecError naming the spec's field."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SpecError(f"{field}.pretrained: cannot read a config from {name!r} ({reason})") from None


def load_weights(kind: Any, name: str, field: str, **options: Any) -> Any:
    """A model with the weights of a checkpoint; raises SpecError if any weight would stay random.

    Only safetensors are read: a pickled checkpoint can run code. Raises ExportDamaged for an export of ours that is.
    """
    from safetensors import SafetensorError
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    check_digests(Path(name))
    try:
        model, report = kind.from_pretrained(
            name, output_loading_info=True, use_safetensors=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        stored = Path(name)
        pickle = find_pickle(stored, "*.safetensors" if any(stored.glob("*.safetensors")) else "*")
        if pickle:
            raise SpecError(f"{field}.pretrained: in {name!r}, {pickle}, {ADVICE}") from None
        reason = " ".join(str(error).split())[:200]
        raise SpecError(f"{field}.pretrained: cannot load weights from {name!r} ({reason})") from None
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing:
        raise SpecError(
            f"{field}.pretrained: {name} lacks {len(missing)} weights of {kind.__name__}, {missing[0]} first; "
            f"they would be random. Give a checkpoint of the whole model"
        )
    return model


def make_config(kind: Any, fields: Config, field: str) -> Any:
    """A config from the spec's fields; an unknown field is an error, which transformers would keep silently."""
    check_fields(kind, fields, field)
    return make_model(lambda given: kind(**given), fields, field)


def check_fields(kind: Any, fields: Config, field: str) -> None:
    """Refuse fields that a class of configs does not have, which transformers would keep silently. Raises SpecError."""
    known = {*kind().to_dict(), *kind.attribute_map, *OLD_NAMES}
    unknown = sorted(set(fields) - known)
    if unknown:
        near = get_close_matches(unknown[0], known, 1)
        hint = f"; did you mean {near[0]!r}" if near else ""
        raise SpecError(f"{field}: {kind.__name__} has no field {unknown[0]!r}{hint}")


def make_model(make: Callable[[Any], Any], config: Any, field: str) -> Any:
    """`make(config)`; raises SpecError naming the spec's field where the sizes in it do not fit one another."""
    try:
        return make(config)
    except Exception as error:  # transformers and torch refuse impossible sizes with errors of many kinds
        raise SpecError(f"{field}: {' '.join(str(error).split())[:200]}") from None
