"""Attention by documents: what each sample alone would give, not one bit from a neighbour, gradients too."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import torch

from shardkit import SpecError
from tests.trainer.conftest import FakeItem
from trainer.data.collate import collate_packs
from trainer.data.reading import encode_item
from trainer.data.tokenise import Speech
from trainer.losses.sft import SftLoss
from trainer.model import attention
from trainer.model.attention import NAME, attend, choose_attention, find_documents, packed_inputs
from trainer.model.isolation import check_isolation
from trainer.model.omni import Omni
from trainer.spec import LanguageSpec, LoraSpec, LossSpec, ModelSpec

FIELDS: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64, "sliding_window": 3, "initializer_range": 0.3,
}  # fmt: skip
LENGTHS = ((7, 5, 4), (16,), (1, 9, 6))


def language_of(kind: str, way: str = NAME) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **FIELDS)).eval()
    choose_attention(model, way)
    return model


def positions() -> torch.Tensor:
    return torch.stack([torch.cat([torch.arange(length) for length in row]) for row in LENGTHS])


def vectors() -> torch.Tensor:
    return torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(1))


def logits_of(model: Any, embeds: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = model(inputs_embeds=embeds, use_cache=False, **packed_inputs(model, at)).logits
    return found


def test_documents_are_runs_of_positions_and_every_row_begins_one() -> None:
    found = find_documents(torch.tensor([[0, 1, 0, 1], [5, 6, 7, 0]]))
    assert found.starts.tolist() == [0, 2, 4, 7, 8] and found.starts.dtype == torch.int32
    assert found.longest == 4


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gemma3_text"])
def test_packed_documents_are_as_alone_and_as_with_a_mask(kind: str) -> None:
    model, embeds = language_of(kind), vectors()
    packed = logits_of(model, embeds, positions())
    assert torch.allclose(packed, logits_of(language_of(kind, "sdpa"), embeds, positions()), atol=1e-5)
    for row, lengths in enumerate(LENGTHS):
        edges = [0, *torch.tensor(lengths).cumsum(0).tolist()]
        for begin, end in pairwise(edges):
            alone = model(inputs_embeds=embeds[row : row + 1, begin:end], use_cache=False).logits[0]
            assert torch.allclose(packed[row, begin:end], alone, atol=1e-5)
    check_isolation(model)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_not_one_bit_comes_from_a_neighbour(kind: str) -> None:
    model, embeds = language_of(kind), vectors()
    before, changed = logits_of(model, embeds, positions()), embeds.clone()
    changed[0, 7:12] += 1.0
    after = logits_of(model, changed, positions())
    mine = torch.zeros(3, 16, dtype=torch.bool)
    mine[0, 7:12] = True
    assert torch.equal(before[~mine], after[~mine]) and not torch.equal(before[mine], after[mine])


def test_the_kernel_is_asked_for_the_same_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments, by a reference of the same signature in its place: torch has the kernel for CUDA alone."""

    def reference(
        query: Any, key: Any, value: Any, cu_q: Any, cu_k: Any, max_q: int, max_k: int, *, scale: Any, window_size: Any
    ) -> torch.Tensor:
        assert cu_q is cu_k and max_q == max_k >= max(b - a for a, b in pairwise(cu_q.tolist()))
        number = torch.bucketize(torch.arange(len(query)), cu_q[1:], right=True)
        back = torch.arange(len(query))[:, None] - torch.arange(len(query))
        seen = (number[:, None] == number) & (back >= -window_size[1])
        seen &= (back <= window_size[0]) if window_size[0] >= 0 else True
        scores = torch.einsum("qhd,khd->hqk", query, key) * scale
        weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        return torch.einsum("hqk,khd->qhd", weights, value)

    from torch.nn.attention import varlen

    for kind in ("qwen2", "mistral"):
        wanted = logits_of(language_of(kind), vectors(), positions())
        with monkeypatch.context() as patch:
            patch.setattr(varlen, "varlen_attn", reference)
            patch.setattr(attention, "_has_kernel", lambda query: True)
            assert torch.allclose(logits_of(language_of(kind), vectors(), positions()), wanted, atol=1e-5)


def test_rows_that_are_not_packed_go_the_way_of_transformers() -> None:
    model, other, embeds = language_of("llama"), language_of("llama", "sdpa"), vectors()
    mask = torch.ones(3, 16, dtype=torch.bool)
    mask[1, :5] = False
    given = {"inputs_embeds": embeds, "attention_mask": mask, "use_cache": False}
    assert torch.equal(model(**given).logits[mask], other(**given).logits[mask])


def test_what_it_does_not_compute_is_refused() -> None:
    states = torch.randn(1, 2, 4, 8)
    found = find_documents(torch.arange(4)[None])
    with pytest.raises(SpecError, match="has softcap"):
        attend(torch.nn.Module(), states, states, states, None, softcap=30.0, documents=found)
    with pytest.raises(SpecError, match="has attention_dropout"):
        attend(torch.nn.Module(), states, states, states, None, dropout=0.1, documents=found)


@pytest.mark.parametrize("train", ["full", "lora"])
def test_a_pack_with_media_trains_as_with_a_mask(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., FakeItem], train: Any
) -> None:
    items: Any = [
        item(("user", "<|image|> and <|image|>?"), ("assistant", "green blue"), images=2, key="a"),
        item(("user", "say"), ("assistant", "def main(): return 0 1 2 3"), key="b"),
        item(("user", "<|audio|>"), ("assistant", "1 2"), sounds=1, key="c"),
    ]
    found = []
    for way in ("documents", "sdpa"):
        torch.manual_seed(0)
        language = msgspec.structs.replace(tiny_spec.language, train=train, lora=LoraSpec(rank=2))
        language = msgspec.structs.replace(language, attention=way)
        model = Omni(msgspec.structs.replace(tiny_spec, language=language), speech)
        model.language.gradient_checkpointing_enable({"use_reentrant": False})
        rows = [(one.key, encode_item(one, speech, model.senses, 512)) for one in items]
        batch = collate_packs([rows[:2], rows[2:]], model.senses, speech.pad_id)
        loss, _ = SftLoss(LossSpec())(model.train(), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
        with torch.no_grad():
            before = model(batch)
            images = batch.images.clone()
            images[:2] = 255 - images[:2]
            after = model(msgspec.structs.replace(batch, images=images))
        assert batch.segments is not None
        others = batch.segments > 1
        assert torch.equal(before[others], after[others])
        assert not torch.equal(before[batch.segments == 1], after[batch.segments == 1])
    assert found[0].keys() == found[1].keys() and found[0]
    assert all(torch.allclose(found[0][name], found[1][name], rtol=1e-4, atol=1e-5) for name in found[0])


def test_an_attention_that_a_model_or_a_machine_lacks_is_said() -> None:
    with pytest.raises(SpecError, match=r"model\.language\.attention"):
        language_of("llama", "flash_attention_2")
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"config": {"model_type": "llama"}, "attention": "document"}, LanguageSpec)
