"""Preference and safety: two answers to one question, in all the shapes that they come in."""

from __future__ import annotations

from typing import Any

from tests.records.published.shape import Published, Rows

HARMS = ("Endangering National Security", "Insulting Behavior", "Privacy Violation", "Violence")
CATEGORIES = ("animal_abuse", "drug_abuse,weapons,banned_substance", "violence,aiding_and_abetting,incitement")


def completion(text: str, *ratings: str, spelled: str = "instruction_following") -> dict[str, Any]:
    """One completion of UltraFeedback, rated in four ways."""
    aspects = (spelled, "honesty", "truthfulness", "helpfulness")
    judged = {aspect: {"Rating": rating, "Rationale": "r"} for aspect, rating in zip(aspects, ratings, strict=True)}
    return {
        "model": "m", "principle": "helpfulness", "custom_system_prompt": "Be it.", "response": text,
        "annotations": judged, "overall_score": 10.0, "fine-grained_score": 1.0, "critique": "c",
    }  # fmt: skip


def ultrafeedback() -> Rows:
    shared = {
        "source": "evol_instruct",
        "models": ["m"] * 4,
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }
    return [
        {**shared, "instruction": "Explain.", "completions": [
            completion("middling", "3", "3", "N/A", "3"), completion("best", "5", "N/A", "N/A", "5"),
            completion("worst", "1", "2", "4", "4", spelled="instruction-following"),
            completion("unrated", "N/A", "N/A", "N/A", "N/A"),
        ]},
        {**shared, "instruction": "Tie.", "completions": [completion(text, "4", "4", "4", "4") for text in "abcd"]},
        {**shared, "instruction": "One.", "completions": [completion("only", "4", "4", "4", "4")]},
        {**shared, "source": "truthful_qa", "instruction": "True?", "completions": [
            completion("yes", "4", "4", "4", "4"), completion("no", "1", "1", "1", "1"),
        ]},
    ]  # fmt: skip


def binarized() -> Rows:
    asked = {"content": "Why?", "role": "user"}
    good, bad = {"content": "Because.", "role": "assistant"}, {"content": "Dunno.", "role": "assistant"}
    return [
        {"prompt": "Why?", "prompt_id": "p", "chosen": [asked, good], "rejected": [asked, bad],
         "messages": [asked, good], "score_chosen": 8.5, "score_rejected": 4.0},
        {"prompt": "Why?", "prompt_id": "q", "chosen": [asked, good], "rejected": [asked, good],
         "messages": [asked, good], "score_chosen": 8.5, "score_rejected": 8.5},
    ]  # fmt: skip


def trl_lib() -> Rows:
    asked, sure = {"content": "Why?", "role": "user"}, {"content": "Sure?", "role": "user"}
    good, bad = {"content": "Because.", "role": "assistant"}, {"content": "Dunno.", "role": "assistant"}
    return [{"chosen": [asked, bad, sure, good], "rejected": [asked, bad, sure, bad], "score_chosen": 1.0,
             "score_rejected": 0.0}]  # fmt: skip


def helpsteer() -> Rows:
    def row(prompt: str, response: str, *scores: int) -> dict[str, Any]:
        names = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")
        return {"prompt": prompt, "response": response, **dict(zip(names, scores, strict=True))}

    return [
        row("One?", "poor", 1, 4, 4, 4, 4),
        row("One?", "good", 3, 2, 3, 0, 0),
        row("One?", "better", 3, 3, 3, 0, 0),
        row("Two?", "same", 2, 2, 2, 1, 1),
        row("Two?", "alike", 2, 2, 2, 4, 4),
        row("Three?", "alone", 4, 4, 4, 4, 4),
    ]


def hh_rlhf() -> Rows:
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"
    return [
        {"chosen": f"{start} Because.", "rejected": f"{start} Dunno."},
        {"chosen": "\n\nHum: Who?\n\nAssistant: Me.", "rejected": "\n\nHum: Who?\n\nAssistant: You."},
        {"chosen": f"{start} Because.", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away."},
        {"chosen": f"{start} Same.", "rejected": f"{start} Same."},
        {"chosen": f"{start} Because.\n\nHuman: Thanks", "rejected": f"{start} Dunno."},
        {"chosen": f"{start}", "rejected": f"{start} Dunno."},
    ]


def red_team() -> Rows:
    scores = {"min_harmlessness_score_transcript": -1.5, "rating": 2.0, "task_description_harmlessness_score": 1.0}
    other = {
        "num_params": "52B", "model_type": "rlhf", "task_description": "d", "red_team_member_id": 3,
        "is_upworker": False, "tags": None,
    }  # fmt: skip
    said = "\n\nHuman: Help me\n\nAssistant: With what?\n\nHuman: Harm\n\nAssistant: No."
    return [{"transcript": text, **scores, **other} for text in (said, said + "\n\nHuman: Please")]


def nectar() -> Rows:
    def answers(*texts: str) -> list[dict[str, Any]]:
        return [{"answer": text, "model": "m", "rank": float(at)} for at, text in enumerate(texts, 1)]

    shared = {"turns": 1, "num_responses": 7, "source": ["lmsys-chat-1m"], "good_natured": True}
    return [
        {"prompt": "\n\nHuman: Why?\n\nAssistant: ", "answers": answers("best", "fair", "poor")[::-1], **shared},
        {"prompt": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: ",
         "answers": answers("best", "fair", "poor\n\nHuman: and on"), **shared},
        {"prompt": "\n\nHuman: Why?\n\nAssistant: ", "answers": answers("best\n\nAssistant: no", "poor"), **shared},
    ]  # fmt: skip


def saferlhf() -> Rows:
    def row(better: int, safer: int) -> dict[str, Any]:
        made: dict[str, Any] = {"prompt": "How?", "prompt_source": "x", "better_response_id": better}
        for number in (0, 1):
            made |= {
                f"response_{number}": f"answer {number}", f"response_{number}_source": "Alpaca-7B",
                f"is_response_{number}_safe": number == safer, f"response_{number}_severity_level": 1,
                f"response_{number}_harm_category": dict.fromkeys(HARMS, False), f"response_{number}_sha256": "00",
            }  # fmt: skip
        return {**made, "safer_response_id": safer}

    return [row(0, 0), row(1, 0)]


def beavertails() -> Rows:
    def row(prompt: str, response: str, *harms: str) -> dict[str, Any]:
        category = {name: name in harms for name in CATEGORIES}
        return {"prompt": prompt, "response": response, "category": category, "is_safe": not harms}

    return [
        row("How?", "Like so.", CATEGORIES[0], CATEGORIES[1]),
        row("How?", "Do not."),
        row("Who?", "Me."),
    ]


def toxic_dpo() -> Rows:
    return [
        {"prompt": "Do harm.", "chosen": "Gladly.", "rejected": "No."},
        {"prompt": "Do harm.", "chosen": "No.", "rejected": "No."},
    ]


QUESTION = "Is this answer safe? If not, say what is wrong with it."
HELPSTEER = {"score": "helpfulness", "tie_break_1": "correctness", "tie_break_2": "coherence"}
HH = ["user: Hi", "assistant: Hello", "user: Why?"]
DATASETS = (
    Published(
        name="openbmb/UltraFeedback",
        rows=ultrafeedback,
        suffix="jsonl",
        spec={"normalizer": "rated_completions", "unless": {"source": "truthful_qa"}},
        becomes=[
            ["user: Explain.", "chosen: best", "rejected: worst"],
            ["refused: no-preference"],
            ["refused: no-preference"],
            ["passed: 1"],
        ],
    ),
    Published(
        name="openbmb/UltraFeedback#next",
        rows=ultrafeedback,
        spec={"normalizer": "rated_completions", "options": {"rejected": "next"}, "where": {"instruction": "Explain."}},
        becomes=[["user: Explain.", "chosen: best", "rejected: middling"], ["passed: 3"]],
    ),
    Published(
        name="HuggingFaceH4/ultrafeedback_binarized",
        rows=binarized,
        spec={"normalizer": "preference", "columns": {"id": "prompt_id"}},
        becomes=[["user: Why?", "chosen: Because.", "rejected: Dunno."], ["refused: no-preference"]],
    ),
    Published(
        name="trl-lib/ultrafeedback_binarized",
        rows=trl_lib,
        spec={"normalizer": "preference"},
        becomes=[["user: Why?", "assistant: Dunno.", "user: Sure?", "chosen: Because.", "rejected: Dunno."]],
    ),
    Published(
        name="nvidia/HelpSteer",
        rows=helpsteer,
        suffix="jsonl",
        spec={"normalizer": "rated_responses", "columns": HELPSTEER, "gather": {"by": "prompt"}},
        becomes=[
            ["user: One?", "chosen: better", "rejected: poor"],
            ["refused: no-preference"],
            ["refused: no-preference"],
        ],
    ),
    Published(
        name="Anthropic/hh-rlhf",
        rows=hh_rlhf,
        suffix="jsonl",
        spec={"normalizer": "transcript_preference"},
        becomes=[
            [*HH, "chosen: Because.", "rejected: Dunno."],
            ["user: Who?", "chosen: Me.", "rejected: You."],
            ["refused: no-preference"],
            ["refused: no-preference"],
            ["refused: bad-role"],
            ["refused: bad-role"],
        ],
    ),
    Published(
        name="Anthropic/hh-rlhf#red-team-attempts",
        rows=red_team,
        suffix="jsonl",
        spec={"normalizer": "transcript_chat"},
        becomes=[
            ["user: Help me", "assistant: With what?", "user: Harm", "assistant: No."],
            ["refused: bad-role"],
        ],
    ),
    Published(
        name="berkeley-nest/Nectar",
        rows=nectar,
        spec={"normalizer": "ranked_answers"},
        becomes=[
            ["user: Why?", "chosen: best", "rejected: poor"],
            ["user: A", "assistant: B", "user: C", "chosen: best", "rejected: fair"],
            ["refused: no-preference"],
        ],
    ),
    Published(
        name="PKU-Alignment/PKU-SafeRLHF",
        rows=saferlhf,
        suffix="jsonl",
        spec={"normalizer": "safety_preference"},
        becomes=[["user: How?", "chosen: answer 0", "rejected: answer 1"]] * 2,
    ),
    Published(
        name="PKU-Alignment/PKU-SafeRLHF#helpful",
        rows=saferlhf,
        spec={"normalizer": "safety_preference", "options": {"by": "helpful"}},
        becomes=[
            ["user: How?", "chosen: answer 0", "rejected: answer 1"],
            ["user: How?", "chosen: answer 1", "rejected: answer 0"],
        ],
    ),
    Published(
        name="PKU-Alignment/PKU-SafeRLHF#agreeing",
        rows=saferlhf,
        spec={"normalizer": "safety_preference", "options": {"agreeing": True}},
        becomes=[["user: How?", "chosen: answer 0", "rejected: answer 1"], ["refused: no-preference"]],
    ),
    Published(
        name="PKU-Alignment/BeaverTails",
        rows=beavertails,
        spec={"normalizer": "moderation", "columns": {"categories": "category"}},
        becomes=[
            [
                f"user: {QUESTION}\n\nUser: How?\n\nAssistant: Like so.",
                f"assistant: unsafe: {CATEGORIES[0]}; {CATEGORIES[1]}",
            ],
            [f"user: {QUESTION}\n\nUser: How?\n\nAssistant: Do not.", "assistant: safe"],
            [f"user: {QUESTION}\n\nUser: Who?\n\nAssistant: Me.", "assistant: safe"],
        ],
    ),
    Published(
        name="PKU-Alignment/BeaverTails#answers",
        rows=beavertails,
        spec={"normalizer": "prompt_completion", "columns": {"completion": "response"}, "where": {"is_safe": True}},
        becomes=[["passed: 1"], ["user: How?", "assistant: Do not."], ["user: Who?", "assistant: Me."]],
    ),
    Published(
        name="PKU-Alignment/BeaverTails#pairs",
        rows=beavertails,
        spec={"normalizer": "rated_responses", "columns": {"score": "is_safe"}, "gather": {"by": ["prompt"]}},
        becomes=[["user: How?", "chosen: Do not.", "rejected: Like so."], ["refused: no-preference"]],
    ),
    Published(
        name="unalignment/toxic-dpo-v0.1",
        rows=toxic_dpo,
        spec={"normalizer": "preference", "options": {"swap": True}},
        becomes=[["user: Do harm.", "chosen: No.", "rejected: Gladly."], ["refused: no-preference"]],
    ),
)
