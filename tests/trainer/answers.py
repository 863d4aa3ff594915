"""Tiny models of text, samples with preferences, and steps on one batch, for the tests of losses."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch

from shardkit.records.sample import Message, Preference, Sample
from trainer.data.collate import TrainBatch, collate
from trainer.data.media import Senses
from trainer.data.tokenise import Speech, Teaches, train_speech
from trainer.losses.parts import LossParts
from trainer.losses.table import Loss
from trainer.model.omni import Omni
from trainer.spec import LanguageSpec, LoraSpec, ModelSpec

TEXTS = ["Which one? red green blue yellow", "the colour of the sky is blue", "def main(): return 0"]


def text_model(speech: Speech, train: str = "full", seed: int = 0, hidden: int = 32) -> Omni:
    """A random llama of two layers, with a spread that lets it learn in few steps."""
    config = {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "initializer_range": 0.1,
    }  # fmt: skip
    lora = LoraSpec(rank=4, alpha=8)
    language = msgspec.convert({"config": config, "train": train, "lora": msgspec.to_builtins(lora)}, LanguageSpec)
    torch.manual_seed(seed)
    return Omni(ModelSpec(language=language), speech).train()


def teaching(teaches: Teaches) -> Speech:
    speech = train_speech(TEXTS, 320)
    speech.teaches = teaches
    return speech


def asked(prompt: str, chosen: str, rejected: str) -> Sample:
    """A prompt with a preference."""
    return Sample(
        id=prompt, messages=(Message(role="user", content=prompt),), domain="d", category="c", source="s",
        preference=Preference(chosen=chosen, rejected=rejected),
    )  # fmt: skip


def conversation(*turns: tuple[str, str]) -> Sample:
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    return Sample(id="x", messages=messages, domain="d", category="c", source="s")


PREFERENCES = (
    asked("Which one?", "red", "a blue one"),
    asked("the sky", "blue as can be", "green"),
    asked("return", "0", "yellow main"),
)


def batch_of(speech: Speech, samples: Sequence[Sample], most: int = 200) -> TrainBatch:
    rows = [(str(at), speech.encode(sample, (), Senses(), most)) for at, sample in enumerate(samples)]
    return collate(rows, Senses(), speech.pad_id)


def learn(model: Omni, loss: Loss, batch: TrainBatch, steps: int, rate: float = 1e-2) -> list[tuple[float, LossParts]]:
    """Steps of Adam on one batch: the mean loss and the parts of each."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, rate)
    found = []
    for _ in range(steps):
        total, parts = loss(model, batch)
        mean = total / loss.weight(batch)
        mean.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        found.append((float(mean.detach()), parts))
    return found


def mean_of(parts: LossParts, name: str) -> float:
    total, count = parts.extra[name]
    return total / count


def gradients(model: Omni, loss: Loss, batches: Sequence[TrainBatch]) -> dict[str, torch.Tensor]:
    """Gradients of the mean over all batches, accumulated one after another as a step does."""
    model.zero_grad(set_to_none=True)
    weight = torch.stack([loss.weight(batch) for batch in batches]).sum()
    for batch in batches:
        (loss(model, batch)[0] / weight).backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
