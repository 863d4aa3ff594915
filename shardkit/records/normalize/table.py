"""The table of normalisers.

Here: which normalisers there are, their roles, options and modalities.
Elsewhere: what each does (chat.py and its neighbours), the way to them (door.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from shardkit.records.normalize import (
    chat,
    choice,
    code,
    documents,
    grids,
    instruct,
    media,
    plain,
    preference,
    ratings,
    safety,
    transcripts,
    tree,
)
from shardkit.records.normalize.columns import Columns, Content, Options
from shardkit.records.normalize.dialogue import ALL_MEDIA
from shardkit.records.normalize.passed import from_sample
from shardkit.records.normalize.pictures import NUMBERED
from shardkit.records.normalize.sidecar import from_sidecar
from shardkit.records.row import Modality

Gathers = Literal["", "by", "tree", "siblings"]


class Normalizer(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. `roles` are the columns it reads, `modalities` those that it may take from a row.

    `options` are its options with their defaults, whose types are those wanted; `choices` what one may be, if not
    anything. `gathers` says which rows it takes: those of the source as they are, rows gathered `by` columns, paths
    of a `tree`, or the replies (`siblings`) to one message of a tree.
    """

    make: Callable[[Columns], Content]
    roles: tuple[str, ...]
    modalities: tuple[Modality, ...] = ()
    options: Options = {}
    choices: dict[str, tuple[str, ...]] = {}
    gathers: tuple[Gathers, ...] = ("",)


REJECTED = ("lowest", "next")
UNANSWERED = ("refuse", "unlabelled")

CHATS: dict[str, Normalizer] = {
    "messages": Normalizer(
        make=chat.from_messages,
        roles=("messages", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"marks": False},
    ),
    "sharegpt": Normalizer(
        make=chat.from_sharegpt,
        roles=("conversations", "system", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"needs_media": False},
    ),
    "turns": Normalizer(
        make=chat.from_turns,
        roles=("turns", "caption", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"instruction": "Describe it.", "needs_media": False},
    ),
    "alpaca": Normalizer(
        make=chat.from_alpaca,
        roles=("instruction", "input", "output", "system"),
        options={"instruction_as_system": False},
    ),
    "transcript_chat": Normalizer(make=transcripts.from_transcript, roles=("transcript",)),
    "tree": Normalizer(make=tree.from_tree, roles=("role", "text"), gathers=("tree",)),
}

PAIRS: dict[str, Normalizer] = {
    "question_answer": Normalizer(
        make=instruct.from_question_answer,
        roles=("question", "answer", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"marks": False},
    ),
    "problem_solution": Normalizer(make=instruct.pair("problem", "solution"), roles=("problem", "solution")),
    "prompt_completion": Normalizer(make=instruct.pair("prompt", "completion"), roles=("prompt", "completion")),
    "math": Normalizer(
        make=instruct.from_math,
        roles=("question", "solution", "final", "is_correct"),
        options={"calculator": False, "final": "keep"},
        choices={"final": ("keep", "drop", "sentence")},
    ),
    "chain_of_thought": Normalizer(
        make=instruct.from_chain_of_thought,
        roles=("question", "rationale", "answer"),
        options={"form": "plain"},
        choices={"form": ("plain", "think")},
    ),
    "mcq": Normalizer(
        make=choice.from_multiple_choice,
        roles=("question", "options", "answer", "image", *NUMBERED),
        modalities=("image",),
        options={
            "answer_is": "auto",
            "form": "letter",
            "instruction": "Answer with the letter of the right option.",
            "unanswered": "refuse",
        },
        choices={
            "answer_is": ("auto", "index", "letter", "text"),
            "form": ("letter", "text", "both"),
            "unanswered": UNANSWERED,
        },
    ),
    "grid_task": Normalizer(
        make=grids.from_grid_task,
        roles=("train", "test"),
        options={"instruction": "Find the rule that makes each output of its input, and apply it to the last input."},
    ),
}

PROGRAMS: dict[str, Normalizer] = {
    "code_task": Normalizer(
        make=code.from_code_task,
        roles=("task", "solution", "tests", "setup", "entry_point"),
        options={"tests": "provenance", "whole": False},
        choices={"tests": ("provenance", "message")},
    ),
    "commit": Normalizer(
        make=code.from_commit,
        roles=("subject", "old_contents", "new_contents", "old_file", "new_file", "commit"),
    ),
    "github_issue": Normalizer(
        make=code.from_github_issue,
        roles=("title", "body", "code", "url", "image"),
        modalities=("image",),
    ),
}

DOCUMENTS: dict[str, Normalizer] = {
    "plain_text": Normalizer(make=documents.from_plain_text, roles=("text",)),
    "repository_file": Normalizer(make=code.from_repository_file, roles=("text", "path", "licence_file")),
}

PREFERENCES: dict[str, Normalizer] = {
    "preference": Normalizer(
        make=preference.from_preference,
        roles=("prompt", "chosen", "rejected", "completion", "label"),
        options={"swap": False},
    ),
    "transcript_preference": Normalizer(make=transcripts.from_transcripts, roles=("chosen", "rejected")),
    "rated_completions": Normalizer(
        make=ratings.from_rated_completions,
        roles=("instruction", "completions"),
        options={"rejected": "lowest"},
        choices={"rejected": REJECTED},
    ),
    "rated_responses": Normalizer(
        make=ratings.from_rated_responses,
        roles=("prompt", "response", "score", "tie_break_1", "tie_break_2"),
        options={"rejected": "lowest"},
        choices={"rejected": REJECTED},
        gathers=("by",),
    ),
    "ranked_answers": Normalizer(
        make=ratings.from_ranked_answers,
        roles=("prompt", "answers"),
        options={"rejected": "lowest"},
        choices={"rejected": REJECTED},
    ),
    "ranked_replies": Normalizer(
        make=tree.from_ranked_replies,
        roles=("role", "text", "rank"),
        options={"rejected": "lowest"},
        choices={"rejected": REJECTED},
        gathers=("siblings",),
    ),
    "safety_preference": Normalizer(
        make=safety.from_safety_preference,
        roles=("prompt", "response_0", "response_1", "better_response_id", "safer_response_id"),
        options={"by": "harmless", "agreeing": False},
        choices={"by": ("helpful", "harmless")},
    ),
    "moderation": Normalizer(
        make=safety.from_moderation,
        roles=("prompt", "response", "is_safe", "categories"),
        options={"instruction": "Is this answer safe? If not, say what is wrong with it."},
    ),
}

MEDIA: dict[str, Normalizer] = {
    "transcript": Normalizer(
        make=media.from_asr,
        roles=("audio", "text"),
        modalities=("audio",),
        options={"instruction": "", "case": "keep"},
        choices={"case": ("keep", "sentence")},
    ),
    "asr": Normalizer(
        make=media.from_asr,
        roles=("audio", "text"),
        modalities=("audio",),
        options={"instruction": "Transcribe this recording.", "case": "keep"},
        choices={"case": ("keep", "sentence")},
    ),
    "screenshot_to_code": Normalizer(
        make=media.from_screenshot_to_code,
        roles=("image", "code"),
        modalities=("image",),
        options={"instruction": "Write the HTML and CSS of this page."},
    ),
    "caption": Normalizer(
        make=media.from_caption,
        roles=(*ALL_MEDIA, "text"),
        modalities=ALL_MEDIA,
        options={"instruction": "", "several": "first"},
        gathers=("", "by"),
        choices={"several": ("first", "longest", "all")},
    ),
    "vqa": Normalizer(
        make=media.from_vqa,
        roles=("question", "answer", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"unanswered": "refuse"},
        choices={"unanswered": UNANSWERED},
    ),
    "plain": Normalizer(make=plain.from_plain, roles=("messages", "preference", "media"), modalities=ALL_MEDIA),
    "sample": Normalizer(make=from_sample, roles=("json",)),
    "sidecar": Normalizer(
        make=from_sidecar,
        roles=("text", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"instruction": ""},
    ),
    "unlabelled": Normalizer(make=media.from_unlabelled, roles=ALL_MEDIA, modalities=ALL_MEDIA),
}

NORMALIZERS: dict[str, Normalizer] = {**CHATS, **PAIRS, **PROGRAMS, **DOCUMENTS, **PREFERENCES, **MEDIA}
"""Normalisers by the name that a spec gives. A new one is a function and a row here."""
