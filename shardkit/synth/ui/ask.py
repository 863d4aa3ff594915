"""Questions about a page, with their answers.

Here: what is asked; easy questions, whose answer fills the picture, and finer ones.
Elsewhere: the page (page), its HTML (markup).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardkit.synth.draws import Draws
from shardkit.synth.ui.page import Dashboard, Login, Page, Pricing, Products, Settings, Table

HEADER_COLOUR = "What colour is the header?"
GROUND = "Is the page light or dark?"
HTML = "Write the HTML and CSS of this page."
KINDS = {
    Login: "a form",
    Dashboard: "a dashboard",
    Table: "a table",
    Pricing: "a price list",
    Settings: "settings",
    Products: "a product grid",
}


def ask_easy(page: Page, draws: Draws) -> tuple[str, str]:
    """A question that a glance answers: mostly the header's colour, sometimes whether the page is light or dark."""
    if draws.chance(3, 4):
        return HEADER_COLOUR, page.theme
    return GROUND, "dark" if page.dark else "light"


def ask_fine(page: Page, draws: Draws) -> tuple[str, str]:
    """A question whose answer must be read or counted."""
    general = (
        ("What is the title of the page?", page.title),
        ("What does the page show?", KINDS[type(page.body)]),
        ("How many entries has the navigation?", str(len(page.nav))),
    )
    return draws.choice((*general, *_ABOUT[type(page.body)](page.body)))


def _login(body: Login) -> tuple[tuple[str, str], ...]:
    return (("How many fields has the form?", str(len(body.fields))), ("What does the button say?", body.button))


def _dashboard(body: Dashboard) -> tuple[tuple[str, str], ...]:
    name, value = body.cards[0]
    return (("How many cards are there?", str(len(body.cards))), (f"What is the value of {name}?", value))


def _table(body: Table) -> tuple[tuple[str, str], ...]:
    row = body.rows[-1]
    return (
        ("How many rows has the table, without its head?", str(len(body.rows))),
        (f"What is the {body.columns[1].lower()} of {row[0]}?", row[1]),
    )


def _pricing(body: Pricing) -> tuple[tuple[str, str], ...]:
    name, price, _ = body.plans[-1]
    return (("How many plans are offered?", str(len(body.plans))), (f"What does the plan {name} cost?", f"${price}"))


def _settings(body: Settings) -> tuple[tuple[str, str], ...]:
    label, on = body.toggles[0]
    on_count = sum(switch for _, switch in body.toggles)
    return (("How many switches are on?", str(on_count)), (f"Is {label} on or off?", "on" if on else "off"))


def _products(body: Products) -> tuple[tuple[str, str], ...]:
    name, price = body.goods[0]
    return (("How many products are shown?", str(len(body.goods))), (f"What does the {name} cost?", f"${price}"))


_ABOUT: dict[type, Callable[[Any], tuple[tuple[str, str], ...]]] = {
    Login: _login,
    Dashboard: _dashboard,
    Table: _table,
    Pricing: _pricing,
    Settings: _settings,
    Products: _products,
}
