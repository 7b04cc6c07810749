"""Frozen dataclasses out of YAML files: a wrong key or value is one message that names the file, the place and what is right."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, Union

import yaml

from robots.errors import RobotError

Config = TypeVar("Config")

_PLAIN: dict[type, tuple[type, ...]] = {bool: (bool,), int: (int,), float: (float, int), str: (str,)}


def read(kind: type[Config], path: Path) -> Config:
    """The file as a ``kind``; what it leaves out keeps its default.

    Raises:
        RobotError: the file is missing or no YAML, or something in it is not what ``kind`` takes.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RobotError(f"there is no file {path}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RobotError(f"{path} cannot be read as YAML: {error}") from error
    made: Config = _made(kind, {} if content is None else content, str(path), "")
    return made


def _made(kind: Any, given: Any, file: str, place: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, given, file, place)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return _tuple(inner, given, file, place)
    if origin in (Union, types.UnionType):
        if given is None and type(None) in inner:
            return None
        (kind,) = (choice for choice in inner if choice is not type(None))
        return _made(kind, given, file, place)
    if isinstance(given, _PLAIN[kind]) and not (kind is not bool and isinstance(given, bool)):
        return kind(given)
    raise RobotError(f"{file}: {place} is {given!r}; give {_called(kind)}")


def _dataclass(kind: Any, given: Any, file: str, place: str) -> Any:
    known, before = typing.get_type_hints(kind), f"{place}." if place else ""
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(given, dict):
        raise RobotError(f"{file}: {place or 'the file'} is {given!r}; give {', '.join(names)}, each with its value")
    for key in given:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the choices are {', '.join(names)}"
            raise RobotError(f"{file}: there is no {before}{key}; {hint}")
    for field in dataclasses.fields(kind):
        if _required(field) and field.name not in given:
            raise RobotError(f"{file}: {before}{field.name} is missing")
    values = {key: _made(known[key], value, file, before + key) for key, value in given.items()}
    try:
        return kind(**values)
    except RobotError as error:
        raise RobotError(f"{file}: {error}") from error


def _tuple(inner: Sequence[Any], given: Any, file: str, place: str) -> Any:
    if not isinstance(given, list):
        raise RobotError(f"{file}: {place} is {given!r}; give a list")
    kinds = [inner[0]] * len(given) if inner[-1] is Ellipsis else list(inner)
    if len(kinds) != len(given):
        raise RobotError(f"{file}: {place} is {given!r}; give {len(kinds)} values")
    return tuple(_made(kind, value, file, f"{place}[{k}]") for k, (kind, value) in enumerate(zip(kinds, given, strict=True)))


def _required(field: Any) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _called(kind: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
