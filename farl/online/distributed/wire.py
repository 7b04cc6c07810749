"""Messages between actor and learner: plain values as JSON, tensors as safetensors; nothing that reading could execute."""

from __future__ import annotations

import json
import struct
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

_MAGIC = b"FARLmsg1"
_LENGTH = struct.Struct("<I")
_TENSOR, _PAIRS = "__tensor__", "__pairs__"


class NotAMessage(Exception):
    """Bytes that are no message of ours: refused unread."""


def encode(kind: str, content: dict[str, Any]) -> bytes:
    """A message: nested dicts and lists of plain values and tensors; tuples arrive as lists.

    Raises TypeError for anything else.
    """
    tensors: dict[str, torch.Tensor] = {}
    header = json.dumps({"kind": kind, "content": _strip(content, tensors)}).encode()
    return b"".join((_MAGIC, _LENGTH.pack(len(header)), header, save(tensors)))


def decode(message: bytes) -> tuple[str, dict[str, Any]]:
    """Kind and content of a message; raises NotAMessage."""
    header, rest = _split(message)
    try:
        tensors = load(rest)
        return header["kind"], _fill(header["content"], tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise NotAMessage(f"damaged tensors ({error})") from error


def peek(message: bytes) -> tuple[str, dict[str, Any]]:
    """Kind and plain values of a message, its tensors left where they are; raises NotAMessage."""
    header, _ = _split(message)
    return header["kind"], header["content"]


def _split(message: bytes) -> tuple[dict[str, Any], bytes]:
    start = len(_MAGIC) + _LENGTH.size
    if not message.startswith(_MAGIC) or len(message) < start:
        raise NotAMessage("not a message of this program")
    end = start + _LENGTH.unpack(message[len(_MAGIC) : start])[0]
    try:
        header = json.loads(message[start:end])
    except ValueError as error:
        raise NotAMessage(f"a header that is no JSON ({error})") from error
    if not (isinstance(header, dict) and isinstance(header.get("kind"), str) and isinstance(header.get("content"), dict)):
        raise NotAMessage("a header without kind and content")
    return header, message[end:]


def _strip(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The value with names in place of its tensors."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()   # safetensors refuses tensors that share their storage
        return {_TENSOR: name}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _strip(inner, tensors) for key, inner in value.items()}
        # JSON's keys are text, those of an optimiser's state are numbers.
        return {_PAIRS: [[key, _strip(inner, tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        return [_strip(inner, tensors) for inner in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a message holds plain values and tensors, not a {type(value).__name__}")


def _fill(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_fill(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR}:
        return tensors[value[_TENSOR]]
    if value.keys() == {_PAIRS}:
        return {key: _fill(inner, tensors) for key, inner in value[_PAIRS]}
    return {key: _fill(inner, tensors) for key, inner in value.items()}
