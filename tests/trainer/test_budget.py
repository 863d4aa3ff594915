"""The estimate of memory against what models, optimizers, references and teachers of tiny sizes really take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from tests.trainer.answers import text_model
from tests.trainer.conftest import make_item
from tests.trainer.datasets import tiny_run
from trainer.budget import plan_memory
from trainer.data.collate import collate
from trainer.data.media import load_media
from trainer.data.tokenise import Speech
from trainer.distributed import Parallel, World
from trainer.losses.reference import Reference
from trainer.losses.table import make_loss
from trainer.model.meta import open_meta, shape_of
from trainer.model.precision import settle_precision
from trainer.model.table import make_model
from trainer.objective import load_teacher
from trainer.optim import make_optimizer
from trainer.plan import plan_run
from trainer.spec import FusionSpec, HearingSpec, ModelSpec, RunSpec, VisionSpec

BIG = {"model_type": "llama", "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2,
       "num_attention_heads": 4, "num_key_value_heads": 4}  # fmt: skip


def size_of(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def sized(tiny: ModelSpec, speech: Speech, **more: Any) -> RunSpec:
    """Frozen eyes, trained connector, a language model with tensors of more and of less than 4,096 numbers."""
    assert tiny.vision
    vision = msgspec.structs.replace(tiny.vision, trainable=False)
    model = ModelSpec(vision=vision, language=msgspec.structs.replace(tiny.language, config=BIG))
    return tiny_run(model, tokenizer={"vocabulary": speech.vocabulary}, **more)


def made(spec: RunSpec, speech: Speech) -> Any:
    model = make_model(spec.model, speech)
    settle_precision(model, getattr(torch, spec.dtype))
    return model


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_and_moments_are_those_of_the_model_and_its_optimizer(
    kind: str, dtype: str, tiny_spec: ModelSpec, speech: Speech
) -> None:
    spec = sized(tiny_spec, speech, dtype=dtype, optimizer={"kind": kind, "warmup": 2})
    model, found = made(spec, speech), plan_run(spec, ()).memory
    optimizer = make_optimizer(model, spec)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    state = [each for values in optimizer.state.values() for name, each in values.items()
             if isinstance(each, torch.Tensor) and not name.startswith(("step", "qmap"))]  # fmt: skip
    assert found.weights == size_of(model.parameters())
    assert found.gradients == size_of(each.grad for each in model.parameters() if each.grad is not None)
    assert found.optimizer == size_of(state)
    assert "in 8 bits" in found.formula or kind == "adamw"


def test_a_reference_is_what_trains_once_more_and_pairs_are_two_rows(tiny_spec: ModelSpec, speech: Speech) -> None:
    spec, plain = (sized(tiny_spec, speech, loss={"name": name}) for name in ("dpo", "sft"))
    reference = Reference(made(spec, speech))
    found, without = plan_run(spec, ()), plan_run(plain, ())
    assert found.memory.reference == size_of(reference._start.values()) and not without.memory.reference
    assert found.memory.activations == 2 * without.memory.activations
    assert found.batch_tokens == 2 * without.batch_tokens
    assert plan_run(sized(tiny_spec, speech, loss={"name": "simpo"}), ()).memory.reference == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_teacher_is_counted_whole(dtype: str, tiny_spec: ModelSpec, speech: Speech, tmp_path: Path) -> None:
    text_model(speech, hidden=48).language.save_pretrained(tmp_path)
    speech.save(tmp_path)
    loss = {"name": "distil", "distil": {"teacher": str(tmp_path)}}
    text = ModelSpec(language=msgspec.structs.replace(tiny_spec.language, config=BIG))
    spec = tiny_run(text, tokenizer={"vocabulary": speech.vocabulary}, dtype=dtype, loss=loss)
    student = made(spec, speech)
    teacher = load_teacher(spec, student, speech)
    assert plan_run(spec, ()).memory.reference == size_of(teacher.parameters())
    assert plan_run(spec, (), 2).memory.reference == size_of(teacher.parameters())


def test_cut_up_over_ranks_each_holds_its_share_and_what_is_gathered(tiny_spec: ModelSpec, speech: Speech) -> None:
    from torch.testing._internal.distributed.fake_pg import FakeStore

    spec = sized(tiny_spec, speech, parallel="fsdp", loss={"name": "dpo"})
    model, ranks = made(spec, speech), 4
    dist.init_process_group("fake", rank=0, world_size=ranks, store=FakeStore())
    try:
        layers = [size_of(layer.parameters()) for layer in model.language.model.layers]
        whole, trained = size_of(model.parameters()), size_of(p for p in model.parameters() if p.requires_grad)
        frozen = whole - trained
        Parallel("fsdp", World(0, ranks)).spread(model, torch.device("cpu"))
        local = [p.to_local() for p in model.parameters() if isinstance(p, DTensor)]
    finally:
        dist.destroy_process_group()
    found, alone = plan_run(spec, (), ranks).memory, plan_run(spec, ()).memory
    assert len(local) == len(list(model.parameters()))
    assert found.weights == pytest.approx(size_of(local), rel=0.02)  # what does not divide evenly is rank 0's
    assert (found.gradients, found.optimizer) == (alone.gradients // ranks, alone.optimizer // ranks)
    assert found.reference == alone.reference // ranks
    outside = 2 * (trained - sum(layers)) + frozen
    assert found.gathered == pytest.approx((outside + 2 * max(layers)) * 3 / 4)
    assert found.activations * ranks == alone.activations
    assert "4 devices, the model cut up" in found.formula
    copied = plan_run(msgspec.structs.replace(spec, parallel="ddp"), (), ranks).memory
    assert (copied.weights, copied.optimizer, copied.gathered) == (alone.weights, alone.optimizer, 0)


def test_passes_of_few_rows_keep_less(tiny_spec: ModelSpec, speech: Speech) -> None:
    whole, small = (sized(tiny_spec, speech, micro_batch=rows) for rows in ("auto", 1))
    shape = shape_of(open_meta(whole), whole)
    assert plan_memory(small, shape).activations * whole.batch_size == plan_memory(whole, shape).activations


def kept_bytes(spec: RunSpec, speech: Speech) -> int:
    """Bytes that autograd keeps for the backward pass of a batch of full rows, besides the weights."""
    model, rows = make_model(spec.model, speech).train(), spec.batch_size
    item = make_item(("user", "colour and digits?"), ("assistant", "red 1 " * 400),
                     images=1, sounds=1)  # fmt: skip
    encoded = speech.encode(item.sample, load_media(item, model.senses, False), model.senses, spec.data.max_tokens)  # type: ignore[arg-type]
    batch = collate([(str(at), encoded) for at in range(rows)], model.senses, speech.pad_id)
    assert batch.ids.shape == (rows, spec.data.max_tokens) and len(batch.images) == len(batch.mels) == rows
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss, _ = make_loss(spec.loss)(model, batch)
    assert loss.requires_grad
    return sum(kept.values())


CONNECTORS = ["language", "vision_connector", "audio_connector"]


@pytest.mark.parametrize(("trainable", "connector"), [
    (CONNECTORS, "perceiver"), ([*CONNECTORS, "vision", "audio"], "perceiver"), (CONNECTORS, "capsules"),
    (CONNECTORS, "linear"), (CONNECTORS, ""),
])  # fmt: skip
def test_the_estimate_of_activations_is_near_to_what_autograd_keeps(
    trainable: list[str], connector: Any, tiny_spec: ModelSpec, speech: Speech
) -> None:
    """Without the name of a connector: of the fusion model, in which text attends to all vectors."""
    assert tiny_spec.vision and tiny_spec.audio
    seeing = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
              "image_size": 128, "patch_size": 8}  # fmt: skip
    more: dict[str, Any] = {"latents": 16, "connector": connector, "capsule_width": 32} if connector else {}
    fields = msgspec.to_builtins(tiny_spec.vision) if connector else {}
    vision = msgspec.convert({**fields, "config": seeing, "trainable": "vision" in trainable, **more}, VisionSpec)
    hearing = {"d_model": 64, "encoder_layers": 4, "encoder_attention_heads": 4, "encoder_ffn_dim": 256,
               "num_mel_bins": 80, "max_source_positions": 200}  # fmt: skip
    fields = msgspec.to_builtins(tiny_spec.audio) if connector else {}
    audio = msgspec.convert(
        {**fields, "config": hearing, "windows": 1, "trainable": "audio" in trainable, **more}, HearingSpec
    )
    saying = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4,
              "num_attention_heads": 4, "num_key_value_heads": 4}  # fmt: skip
    language = msgspec.structs.replace(tiny_spec.language, config=saying)
    model = ModelSpec(vision=vision, audio=audio, language=language)
    if not connector:
        fusion = FusionSpec(width=128, layers=4, heads=4)
        model = ModelSpec(kind="fusion", vision=vision, audio=audio, fusion=fusion)
    spec = tiny_run(model, trainable=trainable, data={"max_tokens": 256}, tokenizer={"vocabulary": speech.vocabulary})
    found = kept_bytes(spec, speech)
    assert 0.85 < plan_run(spec, ()).memory.activations / found < 1.15
