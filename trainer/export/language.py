"""The language model of an export: merged into plain Hugging Face safetensors, or its adapters as peft reads them.

Here: merging, writing either.
Elsewhere: what else an export holds (parts.py, card.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from shardkit import SpecError
from trainer.data.tokenise import Speech
from trainer.export.parts import ADAPTER_WEIGHTS
from trainer.model.omni import Omni
from trainer.records import strict_json
from trainer.spec import LanguageSpec


def merge_adapters(model: Omni) -> None:
    """Put the adapters of a model's language model into its weights, in place; nothing where it has none.

    The sum is made in the adapters' float32 and rounded once, to the base's precision. Raises SpecError where a weight
    is then not finite.
    """
    if hasattr(model.language, "merge_and_unload"):
        model.language = model.language.merge_and_unload()
    for name, parameter in model.language.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise SpecError(f"language.{name} is not finite; export an earlier checkpoint with --checkpoint")


def write_language(folder: Path, language: Any, speech: Speech, shard_size: str) -> None:
    """Write config, generation config and safetensors of at most `shard_size` each (`5GB`), as transformers reads them.

    Raises SpecError for a size that is none.
    """
    settings = language.generation_config
    settings.eos_token_id, settings.pad_token_id = sorted(speech.end_ids), speech.pad_id
    if settings.bos_token_id is not None and settings.bos_token_id >= speech.vocabulary:
        settings.bos_token_id = None
    language.config.name_or_path = ""
    try:
        language.save_pretrained(str(folder), max_shard_size=shard_size)
    except ValueError as error:
        raise SpecError(f"cannot write the language model: {error}") from None


def write_adapter(folder: Path, language: Any, spec: LanguageSpec) -> None:
    """Write adapter_config.json and adapter_model.safetensors; embeddings go with them where they have grown.

    Raises SpecError where there are no adapters, or none but this run has their base.
    """
    if not hasattr(language, "peft_config"):
        raise SpecError(f"model.language.train is {spec.train}: there are no adapters; export --format merged")
    if not spec.pretrained:
        raise SpecError("the adapters' base was made from a config, nobody else has it; export --format merged")
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    tensors = get_peft_model_state_dict(language, save_embedding_layers=has_grown(language, spec))
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    save_file(copies, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    fields = language.peft_config["default"].to_dict()
    fields |= {"base_model_name_or_path": spec.pretrained, "inference_mode": True}
    # peft writes its sets in the order of a process's string hashes: sorted, the bytes repeat
    text = strict_json(fields, indent=2, sort_keys=True, default=sorted)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")


def has_grown(language: Any, spec: LanguageSpec) -> bool:
    """Whether the embeddings have more rows than those of the base: some of our special tokens were new to it."""
    from transformers import AutoConfig

    base = AutoConfig.from_pretrained(spec.pretrained, trust_remote_code=False).get_text_config()
    return bool(language.get_input_embeddings().weight.shape[0] > base.vocab_size)
