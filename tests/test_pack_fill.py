"""Packs of real data are filled to 98 percent, and the command says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardkit import open_dataset
from tests.read.made import make_dataset, numbered
from tools.pack_fill import Asked, build_real, measure, train_bpe


def test_packs_of_the_real_mix_are_filled_to_98_percent(shared_data: Path, tmp_path: Path) -> None:
    """Text, code, images, speech and film, by a byte-level BPE of their own; plain batches beside them."""
    pytest.importorskip("av", reason="the film needs PyAV")
    dataset = open_dataset(build_real(shared_data, tmp_path))
    figures = measure(dataset, train_bpe(dataset, 1024), Asked(tokens=4096, packs=80))
    assert figures["pack"]["fill"] >= 0.98
    assert figures["buckets"]["padding"] < 0.15 < 0.6 < figures["plain"]["padding"]
    assert figures["pack"]["samples"] > len(dataset) / 2


def test_the_command_prints_one_object(tmp_path: Path) -> None:
    make_dataset(tmp_path, numbered([64, 64], images=False))
    command = [sys.executable, "-m", "tools.pack_fill", "--json", "--data", str(tmp_path), "--tokens", "256"]
    done = subprocess.run([*command, "--packs", "20", "--vocabulary", "300"], capture_output=True, check=True)
    figures = json.loads(done.stdout)
    assert figures["samples"] == 128 and figures["pack"]["packs"] == 20
    assert figures["pack"]["fill"] == pytest.approx(1 - figures["pack"]["padding"])
