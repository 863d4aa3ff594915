"""The table of generators.

Here: which there are.
Elsewhere: each in its own file; a new one is a file and a line here.
"""

from __future__ import annotations

from shardkit.synth.dtmf import DTMF
from shardkit.synth.generator import Generator
from shardkit.synth.notes import NOTES
from shardkit.synth.screencast import SCREENCAST
from shardkit.synth.shapes import SHAPES_GENERATOR
from shardkit.synth.speech import SPEECH
from shardkit.synth.ui_mockup import UI_MOCKUP

GENERATORS: dict[str, Generator] = {
    generator.name: generator for generator in (UI_MOCKUP, SHAPES_GENERATOR, SPEECH, DTMF, SCREENCAST, NOTES)
}
"""Generators by name. Each gives `make(seed, index, parameters) -> Row`, `missing_tool()` and `toolchain()`."""
