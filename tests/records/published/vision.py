"""Pages, charts, documents and diagrams."""

from __future__ import annotations

from typing import Any

from tests.records.published.shape import Published, Rows, image


def websight() -> Rows:
    return [{"image": image(1), "text": "<html>1</html>", "llm_generated_idea": "A shop."}]


def design2code() -> Rows:
    return [{"image": image(1), "text": "<html>2</html>"}, {"image": None, "text": "<html>3</html>"}]


def design2code_pairs() -> Rows:
    """Pairs of files NN.png and NN.html, as the rows that they become."""
    return [{"png": image(number), "html": f"<html>{number}</html>"} for number in (2, 7)]


def scigraphqa() -> Rows:
    shared = {"title": "t", "abstract": "a", "caption": "c", "first_mention": "f", "response": "r"}
    pairs = [["What is shown?", "A curve."], ["And in red?", "Another."]]
    said = [{"from": "human", "value": "<image>\nWhat is shown?"}, {"from": "gpt", "value": "A curve."}]
    return [
        {"image_file": "1.png", "id": "1", **shared, "q_a_pairs": pairs, "conversations": said},
        {"image_file": "2.png", "id": "2", **shared, "q_a_pairs": [], "conversations": said},
    ]


def scigraphqa_joined() -> Rows:
    """As above, with the pictures of img.zip beside the rows."""
    return [{**row, "image_file": image(at)} for at, row in enumerate(scigraphqa())]


def llava_images() -> Rows:
    """Conversations with one picture, with two in the middle of the text, and with one placeholder too many."""

    def said(*values: str) -> list[dict[str, str]]:
        return [{"from": ("human", "gpt")[at % 2], "value": value} for at, value in enumerate(values)]

    return [
        {"id": "a", "image": [image(1)], "conversations": said("<image>\nWhat?", "That.", "Sure?", "Yes.")},
        {"id": "b", "image": [image(1), image(2)], "conversations": said("From <image> to <image>?", "Yes.")},
        {"id": "c", "image": [image(1)], "conversations": said("<image><image>\nWhat?", "That.")},
        {"id": "d", "image": [], "conversations": said("Write <image>.", "<image>")},
    ]


def vision_messages() -> Rows:
    def said(*parts: str) -> list[dict[str, Any]]:
        return [{"index": 0, "text": None, "type": "image"} if part == "" else
                {"index": None, "text": part, "type": "text"} for part in parts]  # fmt: skip

    def turns(*parts: str) -> list[dict[str, Any]]:
        return [{"content": said(*parts), "role": "user"}, {"content": said("That."), "role": "assistant"}]

    return [
        {"messages": turns("What is it? ", ""), "images": [image(1)]},
        {"messages": turns("", "", "Which?"), "images": [image(1), image(2)]},
        {"messages": turns("", "Which?"), "images": []},
        {"messages": turns("Why?"), "images": []},
    ]


def ai2d() -> Rows:
    return [
        {"image": image(1), "question": "What eats A?", "options": ["B", "C", "D", "none"], "answer": "1"},
        {"image": image(2), "question": "How many?", "options": ["2", "3", "1", "0"], "answer": "2"},
    ]


def chartqa() -> Rows:
    return [
        {"image": image(1), "query": "How high?", "label": ["14"], "human_or_machine": 0},
        {"image": image(2), "query": "Which?", "label": [], "human_or_machine": 1},
    ]


def chartqa_test() -> Rows:
    return [{"type": "human_test", "question": "How high?", "answer": "14", "image": image(1)}]


def docvqa() -> Rows:
    shared = {"question_types": ["handwritten"], "docId": 1, "ucsf_document_id": "u", "ucsf_document_page_no": "1"}
    return [
        {"questionId": "1", "question": "Who signed?", "image": image(1), **shared, "answers": ["Ann", "Ann B."],
         "data_split": "val"},
        {"questionId": "2", "question": "When?", "image": image(2), **shared, "answers": None, "data_split": "test"},
    ]  # fmt: skip


REQUEST = "user: <|image|>\nWrite the HTML and CSS of this page."
ASKED_BY_LETTER = "Answer with the letter of the right option."
FIRST = ["user: <|image|>\nWhat is shown?", "assistant: A curve.", "user: And in red?", "assistant: Another."]
DATASETS = (
    Published(
        name="HuggingFaceM4/WebSight",
        rows=websight,
        spec={"normalizer": "screenshot_to_code", "columns": {"code": "text"}},
        becomes=[[REQUEST, "assistant: <html>1</html>"]],
    ),
    Published(
        name="SALT-NLP/Design2Code-hf",
        rows=design2code,
        spec={"normalizer": "screenshot_to_code", "columns": {"code": "text"}},
        becomes=[[REQUEST, "assistant: <html>2</html>"], ["refused: no-media"]],
    ),
    *(
        Published(
            name=name,
            rows=design2code_pairs,
            spec={"normalizer": "screenshot_to_code", "columns": {"image": "png", "code": "html"}},
            becomes=[[REQUEST, f"assistant: <html>{number}</html>"] for number in (2, 7)],
        )
        for name in ("SALT-NLP/Design2Code", "SALT-NLP/Design2Code-HARD")
    ),
    Published(
        name="alexshengzhili/SciGraphQA-295K-train",
        rows=scigraphqa,
        spec={
            "normalizer": "turns",
            "columns": {"turns": "q_a_pairs", "image": "image_file"},
            "options": {"needs_media": True},
        },
        becomes=[["refused: no-media"], ["refused: no-media"]],
    ),
    Published(
        name="alexshengzhili/SciGraphQA-295K-train#joined",
        rows=scigraphqa_joined,
        spec={"normalizer": "turns", "columns": {"turns": "q_a_pairs", "image": "image_file"}, "media_type": "chart"},
        becomes=[FIRST, ["refused: missing-field"]],
    ),
    Published(
        name="LLaVA with images",
        rows=llava_images,
        spec={"normalizer": "sharegpt", "columns": {"id": "id"}},
        becomes=[
            ["user: <|image|>\nWhat?", "assistant: That.", "user: Sure?", "assistant: Yes."],
            ["user: From <|image|> to <|image|>?", "assistant: Yes."],
            ["user: <|image|>\nWhat?", "assistant: That."],
            ["user: Write <image>.", "assistant: <image>"],
        ],
    ),
    Published(
        name="HuggingFaceH4/llava-instruct-mix-vsft",
        rows=vision_messages,
        spec={"normalizer": "messages", "columns": {"image": "images"}},
        becomes=[
            ["user: What is it? <|image|>", "assistant: That."],
            ["user: <|image|><|image|>Which?", "assistant: That."],
            ["refused: schema"],
            ["user: Why?", "assistant: That."],
        ],
    ),
    Published(
        name="lmms-lab-encoder/ai2d",
        rows=ai2d,
        spec={"normalizer": "mcq", "options": {"answer_is": "index"}, "media_type": "diagram"},
        becomes=[
            [f"user: <|image|>\nWhat eats A?\n\nA. B\nB. C\nC. D\nD. none\n\n{ASKED_BY_LETTER}", "assistant: B"],
            [f"user: <|image|>\nHow many?\n\nA. 2\nB. 3\nC. 1\nD. 0\n\n{ASKED_BY_LETTER}", "assistant: C"],
        ],
    ),
    Published(
        name="HuggingFaceM4/ChartQA",
        rows=chartqa,
        spec={"normalizer": "vqa", "columns": {"question": "query", "answer": "label"}, "media_type": "chart"},
        becomes=[["user: <|image|>\nHow high?", "assistant: 14"], ["refused: missing-field"]],
    ),
    Published(
        name="lmms-lab-encoder/ChartQA",
        rows=chartqa_test,
        spec={"normalizer": "vqa", "columns": {"category": "type"}},
        becomes=[["user: <|image|>\nHow high?", "assistant: 14"]],
    ),
    Published(
        name="lmms-lab-encoder/DocVQA",
        rows=docvqa,
        spec={"normalizer": "vqa", "columns": {"answer": "answers"}},
        becomes=[["user: <|image|>\nWho signed?", "assistant: Ann"], ["refused: missing-field"]],
    ),
    Published(
        name="lmms-lab-encoder/DocVQA#unlabelled",
        rows=docvqa,
        spec={"normalizer": "vqa", "columns": {"answer": "answers"}, "options": {"unanswered": "unlabelled"}},
        becomes=[["user: <|image|>\nWho signed?", "assistant: Ann"], []],
    ),
)
