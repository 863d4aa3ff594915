"""What is on a mock-up page, and drawing one at random.

Here: structs of pages and their bodies, and how a page comes from draws.
Elsewhere: painting (paint, bodies), HTML and CSS (markup), questions (ask).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shardkit.synth.draws import Draws

THEMES = {
    "red": "#d62828",
    "green": "#2a9d3f",
    "blue": "#1d5fd1",
    "yellow": "#f2c400",
    "black": "#1c1c1c",
    "purple": "#7b2cbf",
    "orange": "#f77f00",
    "teal": "#0f9b9b",
}
"""Header colours by name; the first ones are the furthest apart."""
LIGHT = {"ground": "#f4f5f7", "panel": "#ffffff", "text": "#212529", "faint": "#868e96", "line": "#d0d4d9"}
DARK = {"ground": "#22262b", "panel": "#2f353c", "text": "#f1f3f5", "faint": "#a0a7ae", "line": "#4a525b"}

PRODUCTS = ("Acorn", "Beacon", "Cobalt", "Delta", "Ember", "Falcon", "Granite", "Harbor", "Indigo", "Juniper",
            "Kestrel", "Lumen", "Meridian", "Nimbus", "Orchid", "Pioneer", "Quartz", "Ripple", "Summit")  # fmt: skip
SUFFIXES = ("Admin", "Cloud", "Console", "Desk", "Hub", "Labs", "Notes", "Pay", "Shop", "Track")
NAV = ("Home", "Docs", "Teams", "Billing", "Reports", "Help", "Blog", "About")
FIELDS = ("Email", "User name", "Password", "Company", "Phone", "City")
LOGIN_BUTTONS = ("Log in", "Sign in", "Continue", "Create account")
METRICS = ("Users", "Orders", "Revenue", "Errors", "Visits", "Builds", "Tickets", "Latency")
COLUMNS = ("Name", "Role", "Status", "Plan", "Region", "Owner")
CELLS = {
    "Name": ("Ada", "Grace", "Linus", "Margaret", "Dennis", "Barbara", "Ken", "Radia", "Edsger", "Hedy"),
    "Role": ("Admin", "Editor", "Viewer", "Owner"),
    "Status": ("Active", "Paused", "Invited", "Blocked"),
    "Plan": ("Free", "Team", "Pro"),
    "Region": ("EU", "US", "Asia"),
    "Owner": ("Ops", "Web", "Data", "Mobile"),
}
PLANS = ("Free", "Starter", "Team", "Pro", "Business", "Scale")
FEATURES = ("1 project", "5 projects", "Email support", "Audit log", "Backups", "SSO", "API access", "10 GB storage")
TOGGLES = ("Dark mode", "Notifications", "Auto save", "Two-factor login", "Beta features", "Weekly report", "Sounds")
GOODS = ("Lamp", "Chair", "Mug", "Desk", "Clock", "Shelf", "Plant", "Rug", "Kettle", "Radio")


class Login(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A form of labelled fields with one button."""

    fields: tuple[str, ...]
    button: str


class Dashboard(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Cards of (metric, value) and a bar chart; bars are heights in percent."""

    cards: tuple[tuple[str, str], ...]
    bars: tuple[int, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A table with named columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Pricing(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Plans side by side: (name, price in dollars, features)."""

    plans: tuple[tuple[str, int, tuple[str, ...]], ...]


class Settings(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Switches of (label, on), and one button."""

    toggles: tuple[tuple[str, bool], ...]
    button: str


class Products(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A grid of goods: (name, price in dollars)."""

    goods: tuple[tuple[str, int], ...]


Body = Login | Dashboard | Table | Pricing | Settings | Products


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page: a header in the theme's colour with title and navigation, and a body on light or dark ground."""

    title: str
    theme: str
    dark: bool
    nav: tuple[str, ...]
    body: Body

    @property
    def colours(self) -> dict[str, str]:
        """Ground, panel, text, faint, line, accent, and what is legible on the accent, as #rrggbb."""
        on_accent = "#212529" if self.theme == "yellow" else "#ffffff"
        accent = THEMES[self.theme]
        return (DARK if self.dark else LIGHT) | {"accent": accent, "on_accent": on_accent}


def draw_page(draws: Draws, themes: int) -> Page:
    """A page at random, its theme one of the first `themes`."""
    return Page(
        title=f"{draws.choice(PRODUCTS)} {draws.choice(SUFFIXES)}",
        theme=draws.choice(tuple(THEMES)[:themes]),
        dark=draws.chance(1, 3),
        nav=draws.some(NAV, draws.between(2, 4)),
        body=draws.choice(_BODIES)(draws),
    )


def _login(draws: Draws) -> Body:
    return Login(fields=draws.some(FIELDS, draws.between(2, 4)), button=draws.choice(LOGIN_BUTTONS))


def _dashboard(draws: Draws) -> Body:
    names = draws.some(METRICS, draws.between(2, 4))
    cards = tuple((name, f"{draws.between(1, 9999):,}") for name in names)
    return Dashboard(cards=cards, bars=tuple(draws.between(15, 100) for _ in range(draws.between(5, 10))))


def _table(draws: Draws) -> Body:
    columns = ("Name", *draws.some(COLUMNS[1:], draws.between(2, 3)))
    names = draws.some(CELLS["Name"], draws.between(3, 6))
    rows = tuple((name, *(draws.choice(CELLS[column]) for column in columns[1:])) for name in names)
    return Table(columns=columns, rows=rows)


def _pricing(draws: Draws) -> Body:
    names = draws.some(PLANS, draws.between(2, 3))
    plans = []
    for name in names:
        price = 0 if name == "Free" else 5 * draws.between(1, 40)
        plans.append((name, price, draws.some(FEATURES, draws.between(2, 4))))
    return Pricing(plans=tuple(plans))


def _settings(draws: Draws) -> Body:
    labels = draws.some(TOGGLES, draws.between(3, 5))
    return Settings(
        toggles=tuple((label, draws.chance(1, 2)) for label in labels),
        button=draws.choice(("Save", "Apply", "Save changes")),
    )


def _products(draws: Draws) -> Body:
    names = draws.some(GOODS, draws.choice((3, 4, 6)))
    return Products(goods=tuple((name, draws.between(3, 250)) for name in names))


_BODIES: tuple[Callable[[Draws], Body], ...] = (_login, _dashboard, _table, _pricing, _settings, _products)
