"""A short name for everything that a component's state holds: equal names mean equal numbers, to the last bit."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch


def digest(state: Any) -> str:
    """SHA-256 of tensors, arrays, numbers, text, and lists and dictionaries of them."""
    code = hashlib.sha256()
    _add(code, state)
    return code.hexdigest()


def _add(code: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        code.update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        code.update(b"{")
        for key in sorted(value, key=str):
            code.update(f"{key}:".encode())
            _add(code, value[key])
    elif isinstance(value, (list, tuple)):
        code.update(b"[")
        for item in value:
            _add(code, item)
    else:
        code.update(f"{value!r};".encode())
