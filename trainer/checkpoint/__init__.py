"""Checkpoints: a folder a step, whole or not there, safetensors and JSON only; written behind the training."""

from trainer.checkpoint.files import (
    MODEL,
    OPTIMIZER,
    RANDOM,
    STATE,
    TOKENIZER,
    CheckpointFailed,
    Damaged,
    Progress,
    Snapshot,
    peek_progress,
    read_progress,
    write_checkpoint,
)
from trainer.checkpoint.kept import best_checkpoint, find_checkpoint, list_checkpoints, prune_checkpoints, step_of
from trainer.checkpoint.snapshot import Copier, save_checkpoint, take_snapshot
from trainer.checkpoint.tensors import load_model, load_tensors, model_tensors
from trainer.checkpoint.writer import Writer

__all__ = [
    "MODEL",
    "OPTIMIZER",
    "RANDOM",
    "STATE",
    "TOKENIZER",
    "CheckpointFailed",
    "Copier",
    "Damaged",
    "Progress",
    "Snapshot",
    "Writer",
    "best_checkpoint",
    "find_checkpoint",
    "list_checkpoints",
    "load_model",
    "load_tensors",
    "model_tensors",
    "peek_progress",
    "prune_checkpoints",
    "read_progress",
    "save_checkpoint",
    "step_of",
    "take_snapshot",
    "write_checkpoint",
]
