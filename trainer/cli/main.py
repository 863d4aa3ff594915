"""The command `trainer`: train a run, measure a trained one, export it, ask it, show settings.

Here: the program, its list of commands, how errors and signals end it.
Elsewhere: the commands (train.py, evaluate.py, export.py, generate.py, config.py); torch is imported when one runs, not
for `--help`.
"""

from __future__ import annotations

import logging
import warnings

import typer

from shardkit import exit_codes
from trainer.cli.config import config
from trainer.cli.evaluate import evaluate
from trainer.cli.export import export
from trainer.cli.generate import generate
from trainer.cli.train import train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Train multimodal models on shardkit datasets.\n\n"
    "Exit codes: 0 done, 1 failed, 2 usage or bad input, 4 damage found, 130/143 interrupted.\n\n"
    "Example: [bold]trainer train specs/runs/demo.yaml --data http://127.0.0.1:8765[/bold]",
)

COMMANDS = (("train", train), ("eval", evaluate), ("export", export), ("generate", generate), ("config", config))

for _name, _command in COMMANDS:
    app.command(_name)(_command)


def main() -> None:
    """Run the command line; ends the process with one of the exit codes in the help text."""
    _quiet()
    with exit_codes("trainer", lambda: "the same command goes on from the newest checkpoint"):
        app()


def _quiet() -> None:
    """Keep from the terminal what libraries say to their developers: changes to come, kernels that could be fetched."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
