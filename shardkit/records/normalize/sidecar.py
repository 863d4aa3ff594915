"""Media with the text that lay beside them.

Here: a description or transcript where there is one, nothing invented where there is none.
Elsewhere: finding the text (sources.sidecars), other normalisers of media (media.py).
"""

from __future__ import annotations

from shardkit.records.marks import MARKS, escape_marks
from shardkit.records.normalize.columns import Columns, Content
from shardkit.records.row import Modality
from shardkit.records.sample import Message

REQUESTS: dict[Modality, str] = {
    "image": "Describe this image.",
    "audio": "Transcribe this recording.",
    "video": "Describe this video.",
}


def from_sidecar(row: Columns) -> Content:
    """An `image`, `audio` or `video` and its `text`; without text it is unlabelled.

    The user asks as the option `instruction` says, else for a description or a transcript.
    """
    media = row.required_media("image", "audio", "video")
    if row.value("text") is None:
        return Content(media=media)
    asked = str(row.options["instruction"]) or REQUESTS[media[0].modality]
    marks = "".join(MARKS[medium.modality] for medium in media)
    user = Message(role="user", content=f"{marks}\n{escape_marks(asked)}")
    return Content(messages=(user, Message(role="assistant", content=escape_marks(row.text("text")))), media=media)
