"""Normalisers of answers that were judged for safety.

Here: pairs of PKU-SafeRLHF, moderation of BeaverTails.
Elsewhere: safe and unsafe answers to one prompt as a preference (ratings.py, gathered by prompt).
"""

from __future__ import annotations

from typing import Any

from shardkit.errors import Refused
from shardkit.records.normalize.columns import Columns, Content, checked_text
from shardkit.records.normalize.dialogue import turn_pair
from shardkit.records.normalize.preference import preferred, user_turn


def from_safety_preference(row: Columns) -> Content:
    """Columns `prompt`, `response_0`, `response_1`, `better_response_id` and `safer_response_id`, as in PKU-SafeRLHF.

    The option `by` says whose word counts: `helpful` or `harmless`. The two may disagree: with the option
    `agreeing` such rows are refused (`no-preference`).
    """
    better, safer = _either(row, "better_response_id"), _either(row, "safer_response_id")
    if row.options["agreeing"] and better != safer:
        raise Refused("no-preference", "the more helpful answer is not the safer one")
    chosen = safer if row.options["by"] == "harmless" else better
    return Content(
        user_turn(row.said("prompt")),
        preferred(row.said(f"response_{chosen}"), row.said(f"response_{1 - chosen}")),
    )


def from_moderation(row: Columns) -> Content:
    """Columns `prompt`, `response`, `is_safe` and `categories` (an object of true and false), as in BeaverTails.

    The assistant judges the exchange: `safe`, or `unsafe: ` and its categories. The user asks as `instruction` says.
    """
    safe = row.value("is_safe")
    if not isinstance(safe, bool):
        raise Refused("missing-field", f"{row.column('is_safe')}: wanted true or false")
    asked = f"{row.options['instruction']}\n\nUser: {row.said('prompt')}\n\nAssistant: {row.said('response')}"
    reasons = "; ".join(_categories(row.value("categories")))
    return Content(turn_pair(asked, "safe" if safe else f"unsafe: {reasons}" if reasons else "unsafe"))


def _either(row: Columns, role: str) -> int:
    value = row.value(role)
    if isinstance(value, bool) or value not in (0, 1):
        raise Refused("missing-field", f"{row.column(role)}: wanted 0 or 1")
    return int(value)


def _categories(value: Any) -> list[str]:
    if not isinstance(value, dict):
        return []
    return [checked_text(name, "a category") for name, holds in value.items() if holds is True]
