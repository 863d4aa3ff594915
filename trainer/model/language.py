"""The causal language model: any of transformers, whole, with adapters, or with adapters over weights in 4 bits.

Here: making or loading it, its embeddings large enough for the tokeniser, adapters, recomputed layers.
Elsewhere: what it reads (omni.py), reading weights (loading.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from shardkit import SpecError
from trainer.data.tokenise import Speech
from trainer.model.loading import check_fields, load_weights, make_model
from trainer.spec import LanguageSpec

ADAPTED = ("lora", "dora", "qlora")


def make_language(spec: LanguageSpec, speech: Speech) -> Any:
    """The causal language model of a spec, its embeddings large enough for the tokeniser, with adapters if asked.

    Raises SpecError where it cannot be made or loaded.
    """
    model = _load(spec, speech) if spec.pretrained else _make(spec, speech)
    return _adapt(model, spec) if spec.train in ADAPTED else model


def recompute_layers(model: nn.Module) -> None:
    """Have layers of transformers' models that train compute their activations again in the backward pass."""
    for part in model.children():
        inner: Any = getattr(part, "tower", part)
        if hasattr(inner, "gradient_checkpointing_enable") and any(p.requires_grad for p in inner.parameters()):
            inner.gradient_checkpointing_enable({"use_reentrant": False})


def _load(spec: LanguageSpec, speech: Speech) -> Any:
    from transformers import AutoModelForCausalLM

    how: dict[str, Any] = {}
    if spec.train == "qlora":
        how |= _in_four_bits()
    model = load_weights(AutoModelForCausalLM, spec.pretrained, "model.language", **how)
    if model.get_input_embeddings().weight.shape[0] < speech.vocabulary:
        model.resize_token_embeddings(speech.vocabulary, mean_resizing=False)
        model.has_grown = True  # its new rows are in no pretrained checkpoint: ours must hold them
    return model


def _in_four_bits() -> dict[str, Any]:
    """How transformers loads nf4, quantised twice (Dettmers 2023); computed in bfloat16 where the device has it."""
    from transformers import BitsAndBytesConfig

    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": quantised, "dtype": dtype}


def _make(spec: LanguageSpec, speech: Speech) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM

    vocabulary = max(speech.vocabulary, int(spec.config.get("vocab_size", 0)))
    fields = {**spec.config, "vocab_size": vocabulary, "pad_token_id": speech.pad_id}
    kind = str(fields.pop("model_type"))
    if kind in CONFIG_MAPPING:  # another one is named by make_model's error
        check_fields(CONFIG_MAPPING[kind], fields, "model.language.config")
    return make_model(
        lambda given: AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **given)),
        fields,
        "model.language.config",
    )


def _adapt(model: Any, spec: LanguageSpec) -> Any:
    from peft import LoraConfig, get_peft_model

    lora = spec.lora
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        use_dora=spec.train == "dora",
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise SpecError(f"model.language.lora: {error}") from None
