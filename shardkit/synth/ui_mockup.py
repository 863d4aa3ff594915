"""Generator of user-interface mock-ups with their HTML and CSS, or questions about them.

Here: what a row holds and which question it asks.
Elsewhere: pages, painting, HTML, questions (the folder ui).
"""

from __future__ import annotations

from typing import Literal

from shardkit.synth.draws import Draws
from shardkit.synth.generator import Generator, Made, Parameters
from shardkit.synth.ui.ask import HTML, ask_easy, ask_fine
from shardkit.synth.ui.markup import page_html
from shardkit.synth.ui.page import THEMES, Page, draw_page
from shardkit.synth.ui.paint import font_versions, missing_font, paint_page


class MockupParameters(Parameters, frozen=True, kw_only=True):
    """`questions`: `colour` asks what a glance answers, `html` asks for the code, `mixed` has 6 of 9 of the first,
    2 of 9 that are read or counted, and 1 of 9 of the code. `themes`: how many header colours there are.
    """

    questions: Literal["mixed", "colour", "html"] = "mixed"
    themes: int = 6

    def __post_init__(self) -> None:
        if not 2 <= self.themes <= len(THEMES):
            raise ValueError(f"themes is {self.themes}; between 2 and {len(THEMES)}")


def make_mockup(draws: Draws, parameters: MockupParameters) -> Made:
    """Fields `question`, `answer`, `code` (the HTML and CSS, whatever was asked), `title`; blob `image`, a PNG."""
    page = draw_page(draws, parameters.themes)
    question, answer = _ask(page, draws, parameters.questions)
    code = page_html(page)
    return Made(
        fields={"question": question, "answer": answer or code, "code": code, "title": page.title},
        blobs={"image": paint_page(page)},
    )


def _ask(page: Page, draws: Draws, questions: str) -> tuple[str, str]:
    """Question and answer; an empty answer stands for the code."""
    kind = draws.below(9) if questions == "mixed" else {"colour": 0, "html": 8}[questions]
    if kind < 6:
        return ask_easy(page, draws)
    return ask_fine(page, draws) if kind < 8 else (HTML, "")


UI_MOCKUP = Generator(
    name="ui_mockup",
    version=1,
    parameters=MockupParameters,
    row=make_mockup,
    missing=missing_font,
    versions=font_versions,
)
