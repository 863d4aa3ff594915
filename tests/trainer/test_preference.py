"""Losses that compare answers: their values by hand, that they raise the margin, the reference, splits of a step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from shardkit import SpecError
from tests.trainer.answers import PREFERENCES, asked, batch_of, gradients, learn, mean_of, teaching, text_model
from trainer.data.collate import IGNORED
from trainer.losses.kto import KtoLoss, kto, mismatched
from trainer.losses.preference import RULES, Answers, Pairs, PreferenceLoss, score_answers
from trainer.losses.reference import Reference, differing
from trainer.losses.table import make_loss
from trainer.objective import check_objective
from trainer.spec import LanguageSpec, LossSpec, ModelSpec, PackSpec, PreferenceSpec, RunSpec
from trainer.spec.data import DataSpec

NAMES = ("dpo", "ipo", "simpo", "orpo", "kto")


def pairs(chosen: float, rejected: float, kept_chosen: float = 0.0, kept_rejected: float = 0.0) -> Pairs:
    """One pair of answers of four and two tokens."""

    def answers(value: float, count: int) -> Answers:
        return Answers(sums=torch.tensor([value], dtype=torch.float64), counts=torch.tensor([count]))

    return Pairs(
        chosen=answers(chosen, 4), rejected=answers(rejected, 2),
        reference_chosen=answers(kept_chosen, 4), reference_rejected=answers(kept_rejected, 2),
    )  # fmt: skip


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


GIVEN = pairs(-4.0, -6.0, -5.0, -3.0)  # log ratios 1 and -3; means -1 and -3, of the reference -1.25 and -1.5
ODDS = (-1 - math.log(1 - math.exp(-1))) - (-3 - math.log(1 - math.exp(-3)))
BY_HAND = [
    ("dpo", PreferenceSpec(), -math.log(sigmoid(0.1 * 4))),
    ("dpo", PreferenceSpec(beta=0.5), -math.log(sigmoid(2.0))),
    ("dpo", PreferenceSpec(label_smoothing=0.2), -0.8 * math.log(sigmoid(0.4)) - 0.2 * math.log(sigmoid(-0.4))),
    ("ipo", PreferenceSpec(), (0.25 + 1.5 - 1 / 0.2) ** 2),
    ("ipo", PreferenceSpec(beta=0.5), (0.25 + 1.5 - 1.0) ** 2),
    ("simpo", PreferenceSpec(), -math.log(sigmoid(2.0 * (-1 + 3) - 1.0))),
    ("simpo", PreferenceSpec(beta=2.5, gamma=0.3), -math.log(sigmoid(2.5 * 2 - 0.3))),
    ("orpo", PreferenceSpec(), 1.0 - 0.1 * math.log(sigmoid(ODDS))),
    ("orpo", PreferenceSpec(beta=1.0), 1.0 - math.log(sigmoid(ODDS))),
]


@pytest.mark.parametrize(("name", "spec", "wanted"), BY_HAND)
def test_a_rule_has_the_value_that_its_paper_gives(name: str, spec: PreferenceSpec, wanted: float) -> None:
    found = RULES[name](GIVEN, spec)
    assert float(found.losses) == pytest.approx(wanted, rel=1e-9)
    assert float(found.chosen) > float(found.rejected)


def test_rewards_are_beta_times_the_log_ratios() -> None:
    found = RULES["dpo"](GIVEN, PreferenceSpec())
    assert (float(found.chosen), float(found.rejected)) == pytest.approx((0.1, -0.3))


def test_odds_stay_exact_where_an_answer_is_almost_certain() -> None:
    sure = pairs(-4e-6, -2e-6)  # means -1e-6 each: equal odds
    assert float(RULES["orpo"](sure, PreferenceSpec(beta=1.0)).losses) == pytest.approx(math.log(2) + 1e-6, rel=1e-6)


def test_kto_has_the_value_that_its_paper_gives() -> None:
    ratios, good = torch.tensor([2.0, -1.0, 3.0]), torch.tensor([True, False, False])
    spec = PreferenceSpec(beta=0.5, desirable=2.0, undesirable=0.5)
    found = kto(ratios, good, torch.tensor(0.4), spec).tolist()
    wanted = [2 * (1 - sigmoid(0.8)), 0.5 * (1 - sigmoid(0.7)), 0.5 * (1 - sigmoid(-1.3))]
    assert found == pytest.approx(wanted, rel=1e-6)


def test_log_probabilities_are_of_the_answer_alone() -> None:
    speech = teaching("pairs")
    model, batch = text_model(speech), batch_of(speech, PREFERENCES[:1])
    found = score_answers(model, batch)
    logs = torch.log_softmax(model(batch).float(), dim=-1)
    end = speech.tokenizer.eos_token_id
    for at, text in enumerate(("red", "a blue one")):
        answer = [*speech.encode_text(text), end]
        start = int(batch.attention[at].sum()) - len(answer)
        wanted = sum(float(logs[at, start + n - 1, token].detach()) for n, token in enumerate(answer))
        assert int(found.counts[at]) == len(answer)
        assert float(found.sums[at].detach()) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("train", ["full", "lora"])
@pytest.mark.parametrize("name", NAMES)
def test_a_loss_overfits_a_batch_and_raises_the_margin(name: str, train: str) -> None:
    loss = make_loss(LossSpec(name=name))  # type: ignore[arg-type]
    speech = teaching(loss.teaches)
    model, batch = text_model(speech, train), batch_of(speech, PREFERENCES)
    prepare = getattr(loss, "prepare")  # noqa: B009 - the protocol need not have it
    prepare(model)
    found = learn(model, loss, batch, 40)
    assert found[-1][0] < found[0][0]
    assert mean_of(found[-1][1], "reward_margin") > mean_of(found[0][1], "reward_margin") + 0.05
    assert mean_of(found[-1][1], "reward_accuracy") == 1.0


@pytest.mark.parametrize("name", ["dpo", "ipo", "kto"])
def test_the_first_step_finds_policy_and_reference_the_same(name: str) -> None:
    loss = make_loss(LossSpec(name=name))  # type: ignore[arg-type]
    speech = teaching(loss.teaches)
    model, batch = text_model(speech, "lora"), batch_of(speech, PREFERENCES)
    getattr(loss, "prepare")(model)  # noqa: B009
    _, parts = loss(model, batch)
    assert mean_of(parts, "chosen_reward") == mean_of(parts, "rejected_reward") == 0.0


@pytest.mark.parametrize("train", ["full", "lora"])
def test_the_reference_stays_what_the_policy_was_and_leaves_it_alone(train: str) -> None:
    speech = teaching("pairs")
    model, batch = text_model(speech, train), batch_of(speech, PREFERENCES)
    loss = PreferenceLoss(LossSpec(name="dpo"))
    loss.prepare(model)
    began = score_answers(model, batch).sums.detach()
    learn(model, loss, batch, 5)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    now = score_answers(model, batch).sums.detach()
    assert loss.reference is not None
    with loss.reference.of(model) as reference:
        assert torch.equal(score_answers(reference, batch).sums, began)
        assert not reference.training
    assert not torch.equal(now, began)
    assert model.training and torch.equal(score_answers(model, batch).sums.detach(), now)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_model_that_is_sharded_later_has_the_same_reference(tmp_path: Path) -> None:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    model, given = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)), torch.randn(3, 4)
    began = model(given).detach()
    reference = Reference(model)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        fully_shard(model)
        model(given).sum().backward()
        torch.optim.SGD(model.parameters(), 0.1).step()
        now = model(given).detach()
        with reference.of(model) as as_it_began:
            assert torch.equal(as_it_began(given), began)
        assert not torch.equal(now, began)
        assert torch.equal(model(given).detach(), now)
        assert not differing(Reference(model).fingerprint(), Reference(model).fingerprint())
        assert differing(reference.fingerprint(), Reference(model).fingerprint())
    finally:
        dist.destroy_process_group()


def test_trained_adapters_are_part_of_the_reference() -> None:
    speech = teaching("pairs")
    model, batch = text_model(speech, "lora"), batch_of(speech, PREFERENCES)
    first = PreferenceLoss(LossSpec(name="dpo"))
    first.prepare(model)
    learn(model, first, batch, 5)
    trained = score_answers(model, batch).sums.detach()
    with Reference(model).of(model) as reference:
        assert torch.equal(score_answers(reference, batch).sums, trained)


def test_without_a_reference_a_loss_that_needs_one_says_so() -> None:
    speech = teaching("pairs")
    with pytest.raises(ValueError, match="no reference yet"):
        PreferenceLoss(LossSpec(name="dpo"))(text_model(speech), batch_of(speech, PREFERENCES))


@pytest.mark.parametrize("name", NAMES)
def test_splits_of_a_step_give_the_same_gradients(name: str) -> None:
    """KTO where policy and reference are still the same: later its z0 is another in every part."""
    loss = make_loss(LossSpec(name=name))  # type: ignore[arg-type]
    speech = teaching(loss.teaches)
    samples = (*PREFERENCES, asked("main", "return green", "the"))
    model = text_model(speech)
    getattr(loss, "prepare")(model)  # noqa: B009
    if name != "kto":
        learn(model, loss, batch_of(speech, samples), 2)
    whole = gradients(model, loss, [batch_of(speech, samples)])
    split = gradients(model, loss, [batch_of(speech, samples[:1]), batch_of(speech, samples[1:])])
    assert whole.keys() == split.keys()
    assert all(torch.allclose(split[key], value, atol=1e-6) for key, value in whole.items())


def test_kto_learns_from_single_answers() -> None:
    speech = teaching("feedback")
    samples = [asked("Which one?", "red", ""), asked("the sky", "", "green"), asked("return", "0", "yellow")]
    model, batch = text_model(speech), batch_of(speech, samples)
    loss = KtoLoss(LossSpec(name="kto"))
    loss.prepare(model)
    assert batch.wanted is not None and batch.wanted.tolist() == [True, False, True, False]
    assert float(loss.weight(batch)) == 4.0
    found = learn(model, loss, batch, 40)
    assert mean_of(found[-1][1], "chosen_reward") > 0 > mean_of(found[-1][1], "rejected_reward")
    assert found[-1][0] < found[0][0]


def test_mismatched_rows_have_their_prompt_and_the_answer_of_another_sample() -> None:
    speech = teaching("feedback")
    batch = batch_of(speech, [asked("Which one?", "red", "blue"), asked("the sky", "green", "")])
    crossed = mismatched(batch)
    assert crossed is not None
    said = [speech.tokenizer.decode(row[row != IGNORED]) for row in crossed.labels]
    assert said == ["green<|end|>", "green<|end|>", "red<|end|>"]
    silent = crossed.attention & (crossed.labels == IGNORED)
    prompts = [speech.tokenizer.decode(row[mask]) for row, mask in zip(crossed.ids, silent, strict=True)]
    assert prompts == ["<|user|>Which one?<|end|><|assistant|>"] * 2 + ["<|user|>the sky<|end|><|assistant|>"]
    assert mismatched(batch_of(speech, [asked("Which one?", "red", "blue")])) is None


def test_the_distance_of_kto_grows_as_the_policy_goes() -> None:
    speech = teaching("feedback")
    model, batch = text_model(speech), batch_of(speech, [asked("Which one?", "red", ""), asked("the sky", "red", "")])
    loss = KtoLoss(LossSpec(name="kto"))
    loss.prepare(model)
    found = learn(model, loss, batch, 20)
    assert mean_of(found[0][1], "kl") == 0.0
    assert mean_of(found[-1][1], "kl") > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_packed_rows_are_refused(name: str) -> None:
    model = ModelSpec(language=LanguageSpec(pretrained="x"))
    data = DataSpec(max_tokens=64, pack=PackSpec(tokens=64))
    with pytest.raises(SpecError, match=f"loss.name is {name} and data.pack is given.*take data.pack out"):
        check_objective(RunSpec(name="x", model=model, data=data, loss=LossSpec(name=name)))  # type: ignore[arg-type]


def test_kto_wants_two_samples_a_part() -> None:
    model = ModelSpec(language=LanguageSpec(pretrained="x"))
    with pytest.raises(SpecError, match="a part of a step has 1 sample; wanted at least 2"):
        check_objective(RunSpec(name="x", model=model, batch_size=4, accumulate=4, loss=LossSpec(name="kto")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "sft", "preference": PreferenceSpec()}, "loss.name is sft: loss.preference goes with dpo"),
        ({"name": "distil"}, "needs loss.distil.teacher"),
    ],
)
def test_settings_of_another_loss_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossSpec(**fields)  # type: ignore[arg-type]
