"""Answers decoded with a cache, in batches of different lengths, are those of recomputing every step alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch

from trainer.data.collate import TrainBatch, collate
from trainer.data.media import load_media
from trainer.data.tokenise import Encoded, Speech
from trainer.model.generate import decode, greedy
from trainer.model.omni import Omni
from trainer.spec import LanguageSpec, LoraSpec, ModelSpec

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
    },
    "qwen2": {
        "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3,
    },
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
    "bloom": {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3},
}  # fmt: skip


@pytest.fixture(params=[*CONFIGS, "lora"])
def model(request: pytest.FixtureRequest, tiny_spec: ModelSpec, speech: Speech) -> Omni:
    torch.manual_seed(5)
    name = request.param
    language = LanguageSpec(config=CONFIGS["llama" if name == "lora" else name])
    if name == "lora":
        language = msgspec.structs.replace(language, train="lora", lora=LoraSpec(targets=("q_proj", "v_proj")))
    return Omni(msgspec.structs.replace(tiny_spec, language=language), speech).train()


@pytest.fixture
def prompts(item: Callable[..., Any], speech: Speech, model: Omni) -> list[tuple[str, Encoded]]:
    items = [
        item(("user", "What colour?"), ("assistant", "red"), images=1),
        item(("user", "Say the digits that are heard, all of them"), ("assistant", "1 2 3"), sounds=1),
        item(("user", "def"), ("assistant", "main")),
        item(("user", "What is seen and heard here?"), ("assistant", "blue 3"), images=2, sounds=1),
    ]
    rows = []
    for at, each in enumerate(items):
        encoded = speech.encode(each.sample, load_media(each, model.senses), model.senses, 128)
        start = encoded.said.index(True)
        rows.append((str(at), msgspec.structs.replace(encoded, ids=encoded.ids[:start], said=encoded.said[:start])))
    return rows


def recomputed(model: Omni, row: tuple[str, Encoded], pad: int, most: int) -> list[int]:
    """One sample alone, the whole of it at every step, without a cache."""
    model.eval()
    found: list[int] = []
    with torch.no_grad():
        embeds = model.embed(collate([row], model.senses, pad))
        for _ in range(most):
            logits = model.language(inputs_embeds=embeds, use_cache=False).logits
            found.append(int(logits[0, -1].argmax()))
            newest = model.language.get_input_embeddings()(torch.tensor([[found[-1]]]))
            embeds = torch.cat([embeds, newest], dim=1)
    model.train()
    return found


def batch_of(model: Omni, rows: list[tuple[str, Encoded]], speech: Speech) -> TrainBatch:
    return collate(rows, model.senses, speech.pad_id)


def test_a_batch_with_a_cache_equals_each_sample_recomputed(
    model: Omni, prompts: list[tuple[str, Encoded]], speech: Speech
) -> None:
    assert len({len(row.ids) for _, row in prompts}) > 1
    found = greedy(model, batch_of(model, prompts, speech), 9, ())
    assert found == [recomputed(model, row, speech.pad_id, 9) for row in prompts]
    assert len({tuple(ids) for ids in found}) > 1


def test_a_row_ends_before_its_stop_token_and_the_others_go_on(
    model: Omni, prompts: list[tuple[str, Encoded]], speech: Speech
) -> None:
    whole = greedy(model, batch_of(model, prompts, speech), 9, ())
    stop = whole[0][3]
    found = greedy(model, batch_of(model, prompts, speech), 9, {stop})
    assert found == [ids[: ids.index(stop)] if stop in ids else ids for ids in whole]


def test_modes_are_as_they_were_and_no_gradient_is_left(
    model: Omni, prompts: list[tuple[str, Encoded]], speech: Speech
) -> None:
    model.vision_connector.eval()  # type: ignore[union-attr]
    before = [module.training for module in model.modules()]
    greedy(model, batch_of(model, prompts, speech), 2, ())
    assert [module.training for module in model.modules()] == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_compiled_model_is_not_compiled_anew_for_every_token(
    prompts: list[tuple[str, Encoded]], speech: Speech, model: Omni
) -> None:
    plain = greedy(model, batch_of(model, prompts, speech), 3, ())
    compiled: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    model.vision_connector.compile(backend=backend)  # type: ignore[union-attr]
    assert greedy(model, batch_of(model, prompts, speech), 3, ()) == plain
    assert compiled == []
    model(batch_of(model, prompts, speech))
    assert compiled


def test_a_given_choice_is_followed(model: Omni, prompts: list[tuple[str, Encoded]], speech: Speech) -> None:
    found = decode(model, batch_of(model, prompts, speech), 3, (), lambda logits: logits.argmin(dim=-1))
    assert found != greedy(model, batch_of(model, prompts, speech), 3, ())
    with pytest.raises(ValueError, match="packed"):
        packed = msgspec.structs.replace(batch_of(model, prompts, speech), segments=torch.ones(4, 1))
        greedy(model, packed, 1, ())
