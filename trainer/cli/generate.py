"""The command that asks a trained model: `generate`.

Here: its options, streaming the answer.
Elsewhere: what it does (trainer.generate).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.options import CheckpointOption, JsonOption, print_event, warn

Files = list[Path] | None


def generate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run, a checkpoint or an export.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="May hold <|image|>, <|audio|>, <|video|>.")] = "",
    image: Annotated[Files, typer.Option(metavar="FILE", help="A picture; may be repeated.")] = None,
    audio: Annotated[Files, typer.Option(metavar="FILE", help="A recording; may be repeated.")] = None,
    video: Annotated[Files, typer.Option(metavar="FILE", help="A video; may be repeated.")] = None,
    messages: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="A conversation: {messages, modalities}.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest tokens of so much probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed, the same answer.")] = 0,
    device: Annotated[str, typer.Option(metavar="cpu|cuda|auto", help="Where it computes.")] = "auto",
    checkpoint: CheckpointOption = "newest",
    as_json: JsonOption = False,
) -> None:
    """Ask a model; the answer is written as it is found. Without marks in the question, media come before it.

    Example: trainer generate runs/demo --image screen.png "Which colour is the button?"
    """
    from trainer.generate import Decoding, Given, open_model, read_messages

    how = Decoding(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    given = Given(images=tuple(image or ()), audio=tuple(audio or ()), videos=tuple(video or ()))
    conversation = read_messages(messages, question, given)
    model = open_model(folder, device=device, warn=warn, checkpoint=checkpoint)
    reply = model.reply(conversation, how, None if as_json else _stream)
    if as_json:
        print_event({"event": "answer", "answer": reply.text, "tokens": reply.tokens, "complete": reply.complete,
                     "prompt_tokens": reply.prompt_tokens, "unheard_seconds": reply.unheard_seconds,
                     "step": model.step})  # fmt: skip
    else:
        _stream("\n")
        if reply.unheard_seconds:
            warn(f"{reply.unheard_seconds:.1f} s of sound lie behind what the model hears at once")


def _stream(text: str) -> None:
    print(text, end="", flush=True)  # noqa: T201 - this is the command line
