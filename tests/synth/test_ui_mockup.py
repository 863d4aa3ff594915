"""Mock-ups: picture, HTML and answers tell of the same page."""

from __future__ import annotations

import io
from collections import Counter
from html.parser import HTMLParser

import pytest
from PIL import Image

from shardkit.synth.draws import Draws
from shardkit.synth.table import GENERATORS
from shardkit.synth.ui.ask import GROUND, HEADER_COLOUR, HTML
from shardkit.synth.ui.markup import page_html
from shardkit.synth.ui.page import THEMES, Dashboard, Page, Pricing, Products, Settings, Table, draw_page
from shardkit.synth.ui.paint import paint_page

MAKE = GENERATORS["ui_mockup"].make
PAGES = [draw_page(Draws(7, "pages", index), len(THEMES)) for index in range(60)]


class Seen(HTMLParser):
    """Texts and tags of a document; unbalanced tags fail."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: Counter[str] = Counter()
        self._open: list[str] = []
        self.feed(document)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags[tag] += 1
        if tag not in ("meta", "input"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


def hex_at(page: Page, at: tuple[int, int]) -> str:
    picture = Image.open(io.BytesIO(paint_page(page))).convert("RGB")
    return "#{:02x}{:02x}{:02x}".format(*picture.getpixel(at))  # type: ignore[misc]


def test_pages_of_every_kind_and_colour_come_up() -> None:
    assert len({type(page.body) for page in PAGES}) == 6
    assert {page.theme for page in PAGES} == set(THEMES)
    assert {page.dark for page in PAGES} == {True, False}


@pytest.mark.parametrize("page", PAGES[:12], ids=range(12))
def test_the_picture_has_the_colours_of_the_html(page: Page) -> None:
    document = page_html(page)
    assert hex_at(page, (4, 4)) == page.colours["accent"]
    assert hex_at(page, (4, 380)) == page.colours["ground"]
    assert f"background:{page.colours['accent']}" in document
    assert f"background:{page.colours['ground']}" in document


@pytest.mark.parametrize("page", PAGES, ids=range(60))
def test_the_html_is_balanced_and_holds_every_text(page: Page) -> None:
    seen = Seen(page_html(page))
    assert page.title in seen.texts
    assert set(page.nav) <= set(seen.texts)
    assert "@" not in page_html(page)
    match page.body:
        case Dashboard(cards=cards, bars=bars):
            assert {text for card in cards for text in card} <= set(seen.texts)
            assert seen.tags["i"] == len(bars)
        case Table(rows=rows):
            assert seen.tags["tr"] == len(rows) + 1
            assert {cell for row in rows for cell in row} <= set(seen.texts)
        case Pricing(plans=plans):
            assert {f"${price}" for _, price, _ in plans} <= set(seen.texts)
            assert seen.tags["button"] == len(plans)
        case Settings(toggles=toggles):
            assert page_html(page).count(" checked") == sum(on for _, on in toggles)
        case Products(goods=goods):
            assert {name for name, _ in goods} <= set(seen.texts)
        case login:
            assert set(login.fields) <= set(seen.texts)


def test_pictures_are_512_by_384() -> None:
    for page in PAGES[:6]:
        assert Image.open(io.BytesIO(paint_page(page))).size == (512, 384)


def test_text_fits_into_the_picture() -> None:
    """The outermost columns and the last rows stay free of ink other than ground and header."""
    for page in PAGES:
        picture = Image.open(io.BytesIO(paint_page(page))).convert("RGB")
        for x in (8, 503):
            colours = {picture.getpixel((x, y)) for y in range(0, 384, 4)}
            assert len(colours) <= 2, page


def test_mixed_questions_are_mostly_easy_ones() -> None:
    asked = Counter(MAKE(7, index, {}).fields["question"] for index in range(180))
    assert 95 <= asked[HEADER_COLOUR] + asked[GROUND] <= 145
    assert 8 <= asked[HTML] <= 40
    assert len(asked) > 8


def test_questions_of_one_kind() -> None:
    for index in range(20):
        assert MAKE(7, index, {"questions": "colour"}).fields["question"] in (HEADER_COLOUR, GROUND)
        row = MAKE(7, index, {"questions": "html"})
        assert row.fields["question"] == HTML
        assert row.fields["answer"] == row.fields["code"]


def test_the_answer_is_the_colour_in_the_picture() -> None:
    names = {colour: name for name, colour in THEMES.items()}
    seen = set()
    for index in range(60):
        row = MAKE(7, index, {"questions": "colour", "themes": 8})
        if row.fields["question"] == HEADER_COLOUR:
            picture = Image.open(io.BytesIO(row.blobs["image"])).convert("RGB")
            found = "#{:02x}{:02x}{:02x}".format(*picture.getpixel((4, 4)))  # type: ignore[misc]
            assert row.fields["answer"] == names[found]
            seen.add(names[found])
    assert len(seen) >= 6


def test_fewer_themes_use_the_first_ones() -> None:
    rows = [MAKE(7, index, {"questions": "colour", "themes": 2}) for index in range(30)]
    assert {row.fields["answer"] for row in rows} <= {"red", "green", "light", "dark"}


def test_few_pictures_of_a_thousand_pages_could_be_equal() -> None:
    pages = {repr(draw_page(Draws(7, "variety", index), 6)) for index in range(1000)}
    assert len(pages) == 1000
