"""The lens models, by name. Free of torch, so that data can be read and written without it."""

from __future__ import annotations

from typing import Literal

Lens = Literal["pinhole", "opencv", "human36m"]
