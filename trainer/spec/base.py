"""What all structs of run specs share.

Here: the base struct, types of fields.
Elsewhere: the structs (model.py, data.py, training.py, run.py).
"""

from __future__ import annotations

from typing import Literal

import msgspec

Config = dict[str, int | float | str | bool]
Modality = Literal["image", "audio"]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every spec struct."""
