"""The command that shows settings: `config`.

Here: its options, the table.
Elsewhere: the layers and their order (trainer.spec.layers).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shardkit import parse_settings
from trainer.cli.options import JsonOption, ProfileOption, SettingsOption, print_event, show
from trainer.spec import resolve_run, settings_path


def config(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run spec in YAML.")],
    settings: SettingsOption = None,
    profile: ProfileOption = "",
    as_json: JsonOption = False,
) -> None:
    """Every setting of a run, its value and where it comes from.

    A later one holds: the trainer's defaults, your settings (settings.yaml in the configuration folder of the
    platform), profiles of specs/profiles.yaml, the spec, its own profiles, --set.

    Example: trainer config specs/runs/demo.yaml --profile quick
    """
    user = settings_path()
    rows = list(resolve_run(run, parse_settings(settings), profile, user).rows())
    if as_json:
        values = {dotted: {"value": value, "from": origin} for dotted, value, origin in rows}
        print_event({"event": "config", "run": str(run), "user_settings": str(user or ""), "settings": values})
        return
    written = [(dotted, json.dumps(value, ensure_ascii=False), origin) for dotted, value, origin in rows]
    widths = [max(len(row[column]) for row in written) for column in (0, 1)]
    widest = min(widths[1], 60)  # a long value pushes its own line only
    show("\n".join(f"{dotted:<{widths[0]}}  {value:<{widest}}  {origin}" for dotted, value, origin in written))
    if user:
        show(f"\nyour settings: {user}{'' if user.exists() else ' (not there)'}")
