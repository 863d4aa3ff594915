"""How many values the backward pass is kept: of a transformer's token, of an item that passes a connector.

Here: the formulas, measured against what autograd keeps (tests/trainer/test_plan.py).
Elsewhere: sizes of a model (meta.py), bytes from them (trainer.budget).

W is the encoder's width, L its vectors an item, K the latents that a connector makes of them.
"""

from __future__ import annotations

from collections.abc import Callable

from trainer.spec import EncoderSpec


def kept_values(width: int, feed: int, gated: bool) -> int:
    """Values of a token that a transformer's layer keeps, without the scores of its attention.

    Both norms' inputs and outputs, query, key, value, what attention gives and its input to the projection: 11 times
    the width. The feed-forward's inner values before and behind the activation; a gated one has two more.
    """
    return 11 * width + (4 if gated else 2) * (feed or 4 * width)


def kept_by_connector(spec: EncoderSpec, width: int, length: int) -> int:
    """Values of an item that a spec's connector keeps behind an encoder of `width` with `length` vectors."""
    return KEPT[spec.connector](spec, width, length)


def kept_by_crossing(layers: int, width: int, seen: int, length: int) -> int:
    """Values of an item that a fusion model keeps: its projection from `seen` wide vectors, then their norm, key and
    value in each of its layers.
    """
    return length * (2 * seen + 2 * width + 3 * layers * width)


def _perceiver(spec: EncoderSpec, width: int, length: int) -> int:
    """Of each layer 4 W L for what is attended to, and for the latents what a transformer's token keeps."""
    return spec.depth * width * (spec.latents * (11 + 2 * 4) + length * 4)


def _capsules(spec: EncoderSpec, width: int, length: int) -> int:
    """Votes, L x K x capsule_width, are kept once for every time that they are summed: 2 a round, 1 in the last."""
    votes = length * spec.latents * spec.capsule_width
    return 2 * length * width + (2 * spec.routing - 1) * votes + 3 * spec.routing * length * spec.latents


def _linear(spec: EncoderSpec, width: int, length: int) -> int:
    """The norm's input, the means, the share of each vector in them."""
    return length * width + 2 * spec.latents * width + length * spec.latents


KEPT: dict[str, Callable[[EncoderSpec, int, int], int]] = {
    "perceiver": _perceiver, "capsules": _capsules, "linear": _linear,
}  # fmt: skip
"""By the connectors' names; a new one is a function and a row here."""
