"""The folder `omni/` of an export: connectors and trained encoders as safetensors, what they are as JSON.

Here: writing it, and opening an exported model for use.
Elsewhere: the language model beside it (language.py), what is done with an opened model (trainer.generate).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import SpecError, convert_spec
from trainer.data.tokenise import Speech, load_speech
from trainer.digests import DIGESTS, check_digests
from trainer.model.omni import Omni
from trainer.pickles import ADVICE, pickle_in
from trainer.spec import EncoderSpec, ModelSpec
from trainer.spec.base import Strict

FOLDER, CONFIG = "omni", "config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
HERE = "."
FORMAT = 1
NOT_OURS = frozenset({"model_type", "dtype", "torch_dtype", "transformers_version", "architectures", "_name_or_path"})


class ExportRecord(Strict, frozen=True, kw_only=True):
    """omni/config.json: what the exported model is and of which step of which run, on which versions of its data.

    `model` builds it again; its language model lies in the export itself (pretrained `.`) unless the export is an
    adapter, which names its base. `encoders` are those whose weights are in the export. `dtype` is that of the run's
    arithmetic. A dataset's version is the digest of its manifest.
    """

    format: int = FORMAT
    form: str
    name: str
    step: int
    versions: tuple[str, ...]
    dtype: str
    encoders: tuple[str, ...]
    model: ModelSpec


def is_export(folder: Path) -> bool:
    """Whether a folder is an export, be it damaged."""
    return (folder / FOLDER / CONFIG).is_file() or (folder / DIGESTS).is_file()


def write_parts(folder: Path, model: Omni, record: ExportRecord) -> None:
    """Write omni/ of an export into `folder`."""
    from safetensors.torch import save_file

    (folder / FOLDER).mkdir(parents=True)
    for name, tensors in _files(model, record.encoders).items():
        save_file(tensors, folder / FOLDER / f"{name}.safetensors", metadata={"format": "pt"})
    text = msgspec.json.format(msgspec.json.encode(record, order="deterministic"), indent=1)
    (folder / FOLDER / CONFIG).write_bytes(text + b"\n")


def own_encoders(spec: ModelSpec, trained: frozenset[str]) -> tuple[str, ...]:
    """The encoders whose weights are not to be had elsewhere: `trained`, made from a config, or from a local folder."""
    parts: tuple[tuple[str, EncoderSpec | None], ...] = (("vision", spec.vision), ("audio", spec.audio))
    return tuple(
        name
        for name, part in parts
        if part and (name in trained or not part.pretrained or Path(part.pretrained).exists())
    )


def carried(spec: ModelSpec, model: Omni, encoders: tuple[str, ...]) -> ModelSpec:
    """The spec with the sizes of the `encoders` in place of their origin, so that the export alone builds them."""
    changed: dict[str, Any] = {}
    for name in encoders:
        part: EncoderSpec = getattr(spec, name)
        if part.pretrained:
            changed[name] = msgspec.structs.replace(part, pretrained="", config=_sizes(getattr(model, name).tower))
    return msgspec.structs.replace(spec, **changed)


def read_record(folder: Path) -> ExportRecord:
    """omni/config.json of an export; raises SpecError."""
    path = folder / FOLDER / CONFIG
    try:
        raw = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read ({error}); export the run again") from None
    record = convert_spec(raw, ExportRecord, str(path))
    if record.format != FORMAT:
        raise SpecError(f"{path} has format {record.format}; this version reads {FORMAT}")
    return record


def open_export(folder: Path) -> tuple[Omni, Speech, ExportRecord]:
    """The model of an export on CPU in eval mode, its tokeniser and its record.

    Every file is checked against digests.json, where the export has one. Raises SpecError, ExportDamaged.
    """
    check_digests(folder, but="model*.safetensors")  # these are, when the language model is read from them
    record = read_record(folder)
    speech = load_speech(str(folder))
    spec = record.model
    if spec.language.pretrained == HERE:
        here = msgspec.structs.replace(spec.language, pretrained=str(folder))
        spec = msgspec.structs.replace(spec, language=here)
    model = Omni(spec, speech).eval()
    if record.form == "adapter":
        _load_adapter(folder, model)
    for name in _files(model, record.encoders):
        _load_part(folder / FOLDER / f"{name}.safetensors", name, model, record.encoders)
    return model, speech, record


def _files(model: Omni, encoders: tuple[str, ...]) -> dict[str, dict[str, torch.Tensor]]:
    """Tensors by file: one of each encoder that is carried, one of all that is neither encoder nor language model."""
    files: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in model.state_dict().items():
        part = name.partition(".")[0]
        if part == "language" or (part in ("vision", "audio") and part not in encoders):
            continue
        file = part if part in encoders else "connectors"
        files.setdefault(file, {})[name] = value.detach().cpu().clone().contiguous()
    return files


def _load_part(path: Path, name: str, model: Omni, encoders: tuple[str, ...]) -> None:
    stored = read_tensors(path)
    wanted = _files(model, encoders)[name]
    if stored.keys() != wanted.keys() or any(stored[each].shape != wanted[each].shape for each in stored):
        raise SpecError(f"{path} is of another model than {FOLDER}/{CONFIG} says; export the run again")
    model.load_state_dict(stored, strict=False)


def _load_adapter(folder: Path, model: Omni) -> None:
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(model.language, read_tensors(folder / ADAPTER_WEIGHTS))
    missing = [key for key in result.missing_keys if ".lora_" in key]
    if missing or result.unexpected_keys:
        odd = (missing or result.unexpected_keys)[0]
        raise SpecError(f"{folder / ADAPTER_WEIGHTS} does not fit its base model ({odd}); export the run again")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file; raises SpecError where it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        pickle = pickle_in(path)
        if pickle:
            raise SpecError(f"{path} is {pickle}, {ADVICE}") from None
        raise SpecError(f"{path} cannot be read ({error}); export the run again") from None


def _sizes(tower: Any) -> dict[str, int | float | str | bool]:
    """The fields of a Hugging Face config that differ from its kind's defaults, as a run spec has them."""
    kind = type(tower.config)
    usual = kind().to_dict()
    return {
        name: value
        for name, value in sorted(tower.config.to_dict().items())
        if name in usual and name not in NOT_OURS and usual[name] != value and isinstance(value, int | float | str)
    }
