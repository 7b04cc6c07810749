"""Configurations: one frozen dataclass is the YAML file, the flags and the API, and one reader serves all three.

A YAML file is flattened to ``dotted.name -> text``, flags are laid over it, and tyro's constructors turn text into
values, so a wrong key or value is found the same way wherever it stands. tyro also prints ``--help``, from the
field docstrings.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, NoReturn, TypeVar, cast, get_args, get_origin, get_type_hints

import tyro
import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from farl.errors import UserError

Config = TypeVar("Config")


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers and booleans: ``3e-4`` is a number, ``on`` and ``1:30`` are text."""


class _Dumper(yaml.SafeDumper):
    """Quotes exactly what ``_Loader`` would otherwise not read as text."""


_FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf)|\.(nan|NaN)"

_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_Dumper.yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers
_Dumper.ignore_aliases = lambda self, data: True   # type: ignore[method-assign]   # equal tuples are written twice, not as &id001


def _options_from_text(items: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError("each is KEY=VALUE")
        try:
            options[key] = yaml.load(value, _Loader)
        except yaml.YAMLError as error:
            raise ValueError(f"each is KEY=VALUE, and {value!r} is not YAML") from error
    return options


def _options_to_text(options: dict[str, Any]) -> list[str]:
    return [f"{key}={_flow(value)}" for key, value in options.items()]


def _flow(value: Any) -> str:
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


_OPTIONS: PrimitiveConstructorSpec[dict[str, Any]] = PrimitiveConstructorSpec(
    nargs="*",
    metavar="[KEY=VALUE [KEY=VALUE ...]]",
    instance_from_str=_options_from_text,
    is_instance=lambda value: isinstance(value, dict),
    str_from_instance=_options_to_text,
)

Options = Annotated[dict[str, Any], _OPTIONS]
"""Free keyword arguments: a mapping in YAML; after the flag ``KEY=VALUE ...``, such as ``boundary=[0.1,0.2]``.

Flags are laid over the file's mapping key by key.
"""


@dataclass(frozen=True)
class _Given:
    """The text given for one setting, and where."""

    text: tuple[str, ...]
    where: str
    """``configs/a.yaml:3: gate.threshold`` or ``--gate.threshold``"""


def load(cls: type[Config], argv: Sequence[str], prog: str, description: str = "") -> Config:
    """The configuration that ``argv`` asks for: an optional YAML file first, then flags, which win over the file.

    ``-h`` prints the help and exits. Raises UserError, naming the place and the nearest right key or value.
    """
    arguments = list(argv)
    if any(argument in ("-h", "--help") for argument in arguments):
        _print_help(cls, prog, description)
    given: dict[str, _Given] = {}
    if arguments and not arguments[0].startswith("-"):
        given = _from_file(cls, Path(arguments.pop(0)))
    return _build(cls, _laid_over(cls, given, _from_flags(cls, arguments, prog)))


def read(cls: type[Config], path: Path) -> Config:
    """The configuration that a YAML file holds."""
    return _build(cls, _from_file(cls, path))


def parse(text: str) -> Any:
    """The plain values that YAML text means here: of what ``dump`` wrote, what ``dump`` writes again."""
    return yaml.load(text, _Loader)


def dump(config: Any) -> str:
    """YAML text from which ``read`` and ``load`` make an equal object."""
    style: dict[str, Any] = {"sort_keys": False, "default_flow_style": None, "width": 120, "allow_unicode": True}
    return str(yaml.dump(_plain(config), Dumper=_Dumper, **style))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _print_help(cls: type[Any], prog: str, description: str) -> NoReturn:
    about = description or (cls.__doc__ or "").strip()
    about += f"\n\nA YAML file may come first, flags win over it: {prog} [CONFIG.yaml] [--flag value ...]"
    tyro.cli(cls, prog=prog, description=about, args=["--help"], config=(tyro.conf.AvoidSubcommands,))
    raise SystemExit(0)   # tyro exits by itself; this tells the type checker


# ---------------------------------------------------------------- settings of a dataclass


def _hints(cls: type[Any]) -> Iterator[tuple[dataclasses.Field[Any], Any]]:
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        if field.init:
            yield field, hints[field.name]


def _settings(cls: type[Any], prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name, with its type."""
    settings: dict[str, Any] = {}
    for field, hint in _hints(cls):
        if dataclasses.is_dataclass(hint):
            settings |= _settings(cast(type[Any], hint), f"{prefix}{field.name}.")
        else:
            settings[prefix + field.name] = hint
    return settings


def _is_options(hint: Any) -> bool:
    return get_origin(hint) is Annotated and _OPTIONS in hint.__metadata__


def _accepts_none(hint: Any) -> bool:
    return hint is NoneType or NoneType in get_args(hint)


def _nearest(name: str, names: Sequence[str]) -> str | None:
    """What was probably meant: nearly the same name, else one with the same last part, else with a similar one."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
    if close:
        return close[0]
    last = name.rpartition(".")[2]
    ends = list(dict.fromkeys(candidate.rpartition(".")[2] for candidate in names))
    meant = [last] if last in ends else difflib.get_close_matches(last, ends, n=1, cutoff=0.6)
    elsewhere = [candidate for candidate in names if meant and candidate.rpartition(".")[2] == meant[0]]
    return difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.0)[0] if elsewhere else None


# ---------------------------------------------------------------- from a file


def _from_file(cls: type[Any], path: Path) -> dict[str, _Given]:
    root = _compose(path)
    if root is None:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}: expected 'key: value' lines, found {_kind(root)}")
    given: dict[str, _Given] = {}
    _flatten(root, "", _settings(cls), path, given)
    return given


def _compose(path: Path) -> yaml.Node | None:
    try:
        return yaml.compose(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        known = [str(file) for file in Path("configs").rglob("*.yaml")]
        near = difflib.get_close_matches(str(path), known, n=1)
        hint = f"perhaps you meant {near[0]}" if near else "`farl list` shows the ones in configs/"
        raise UserError(f"there is no configuration file '{path}'; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration file '{path}': {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from error


def _flatten(
    node: yaml.MappingNode, prefix: str, settings: dict[str, Any], path: Path, given: dict[str, _Given]
) -> None:
    for key_node, value in node.value:
        name = prefix + str(key_node.value).replace("-", "_")
        where = f"{path}:{key_node.start_mark.line + 1}"
        if name in given:
            raise UserError(f"{where}: '{name}' is given twice, first at {given[name].where.partition(': ')[0]}")
        if name in settings:
            given[name] = _Given(_text(value, settings[name], f"{where}: {name}"), f"{where}: {name}")
        elif any(setting.startswith(name + ".") for setting in settings):
            if _is_null(value):
                continue   # a group with every line commented out
            if not isinstance(value, yaml.MappingNode):
                members = _members(name, settings)
                raise UserError(f"{where}: '{name}' is a group of settings ({members}), not {_kind(value)}")
            _flatten(value, name + ".", settings, path, given)
        else:
            near = _nearest(name, list(settings))
            known = _members(prefix.rstrip("."), settings)
            hint = f"perhaps you meant '{near}'" if near else f"the keys here are {known}"
            raise UserError(f"{where}: unknown key '{name}'; {hint}")


def _members(group: str, settings: dict[str, Any]) -> str:
    prefix = f"{group}." if group else ""
    members = [name.removeprefix(prefix).partition(".")[0] for name in settings if name.startswith(prefix)]
    return ", ".join(dict.fromkeys(members))


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, yaml.SequenceNode) else f"'{node.value}'"


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and bool(node.tag == "tag:yaml.org,2002:null")


def _text(node: yaml.Node, hint: Any, where: str) -> tuple[str, ...]:
    """A YAML value as the text that would stand after the flag."""
    if _is_options(hint):
        return _options_text(node, where)
    if isinstance(node, yaml.SequenceNode):
        return tuple(text for item in node.value for text in _text(item, hint, where))
    if isinstance(node, yaml.MappingNode):
        if get_origin(hint) is not dict:
            raise UserError(f"{where} must be {_expected(hint)}, not a mapping")
        return tuple(text for pair in node.value for item in pair for text in _text(item, hint, where))
    if _is_null(node):
        if not _accepts_none(hint):
            raise UserError(f"{where} is empty; it must be {_expected(hint)}")
        return ("None",)
    if node.tag == "tag:yaml.org,2002:float" and node.value.lower().endswith(("inf", "nan")):
        return (node.value.replace(".", ""),)
    return (str(node.value),)


def _options_text(node: yaml.Node, where: str) -> tuple[str, ...]:
    if _is_null(node):
        return ()
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{where} must be a mapping such as 'max_episode_steps: 100', not {_kind(node)}")
    constructor = _Loader("")
    try:
        pairs = [(str(key.value), constructor.construct_document(value)) for key, value in node.value]   # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        raise UserError(f"{where}: {error}") from error
    return tuple(_options_to_text(dict(pairs)))


# ---------------------------------------------------------------- from flags


def _from_flags(cls: type[Any], arguments: list[str], prog: str) -> dict[str, _Given]:
    settings = _settings(cls)
    given: dict[str, _Given] = {}
    for flag, texts in _split(arguments, prog):
        name, texts = _resolve(flag, texts, settings, prog)
        given = _laid_over(cls, given, {name: _Given(tuple(texts), f"--{name}")})
    return given


def _split(arguments: list[str], prog: str) -> Iterator[tuple[str, list[str]]]:
    """Pairs of a flag (without its dashes) and what follows it."""
    if arguments and not arguments[0].startswith("--"):
        raise UserError(f"unexpected argument '{arguments[0]}'; flags look like --name value (see `{prog} --help`)")
    starts = [index for index, argument in enumerate(arguments) if argument.startswith("--")]
    for start, end in itertools.pairwise([*starts, len(arguments)]):
        flag, equals, value = arguments[start][2:].partition("=")
        yield flag, ([value] if equals else []) + arguments[start + 1 : end]


def _resolve(flag: str, texts: list[str], settings: dict[str, Any], prog: str) -> tuple[str, list[str]]:
    """The setting that a flag names, and the text given for it."""
    name = flag.replace("-", "_")
    if name in settings:
        return name, texts or (["True"] if settings[name] is bool else [])
    group, dot, last = name.rpartition(".")
    positive = group + dot + last.removeprefix("no_")
    if settings.get(positive) is bool and not texts:
        return positive, ["False"]
    if group in settings and _is_options(settings[group]) and len(texts) == 1:
        return group, [f"{last}={texts[0]}"]
    if any(setting.startswith(name + ".") for setting in settings):
        members = _members(name, settings)
        raise UserError(f"'--{flag}' is a group of settings; set its members as --{flag}.NAME: {members}")
    near = _nearest(name, list(settings))
    hint = f"perhaps you meant '--{near.replace('_', '-')}'" if near else f"`{prog} --help` lists the flags"
    raise UserError(f"unknown flag '--{flag}'; {hint}")


def _laid_over(cls: type[Any], below: dict[str, _Given], above: dict[str, _Given]) -> dict[str, _Given]:
    settings = _settings(cls)
    merged = below | above
    for name in below.keys() & above.keys():
        if _is_options(settings[name]):
            merged[name] = _Given(below[name].text + above[name].text, above[name].where)
    return merged


# ---------------------------------------------------------------- from text to values


def _build(cls: type[Config], given: dict[str, _Given]) -> Config:
    settings = _settings(cls)
    values = {name: _value(settings[name], text) for name, text in given.items()}
    return cast(Config, _construct(cls, None, "", values, given))


def _construct(cls: type[Any], default: Any, prefix: str, values: dict[str, Any], given: dict[str, _Given]) -> Any:
    """An instance of ``cls`` with the given values over ``default`` (or over the fields' own defaults)."""
    changes: dict[str, Any] = {}
    for field, hint in _hints(cls):
        name = prefix + field.name
        if dataclasses.is_dataclass(hint):
            below = getattr(default, field.name) if default is not None else _default(field)
            changes[field.name] = _construct(cast(type[Any], hint), below, f"{name}.", values, given)
        elif name in values:
            changes[field.name] = values[name]
        elif default is None and not _has_default(field):
            flag = name.replace("_", "-")
            raise UserError(f"'{name}' is not given: set it in the configuration file, or as --{flag}")
    try:
        return dataclasses.replace(default, **changes) if default is not None else cls(**changes)
    except ValueError as error:
        sources = ", ".join(source.where for name, source in given.items() if name.startswith(prefix))
        raise UserError(f"{error} (given: {sources})" if sources else str(error)) from error


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _spec(hint: Any) -> PrimitiveConstructorSpec[Any]:
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(hint, set()))
    if not isinstance(spec, PrimitiveConstructorSpec):
        raise TypeError(f"a configuration cannot have a field of type {hint}")
    return spec


def _value(hint: Any, given: _Given) -> Any:
    """The value that the given text means; raises UserError naming the place and what was expected."""
    spec, text = _spec(hint), list(given.text)
    if hint is bool and text and text[0] in ("true", "false"):
        text[0] = text[0].capitalize()
    if not text and spec.nargs != "*":
        raise UserError(f"{given.where} has no value; it must be {_expected(hint)}")
    wrong = f"{given.where} is '{' '.join(text)}'; it must be {_expected(hint)}"
    if isinstance(spec.nargs, int) and len(text) != spec.nargs:
        raise UserError(wrong + _hint_for_extra(text, spec.nargs))
    if spec.choices is not None:
        for item in text:
            if item not in spec.choices:
                near = difflib.get_close_matches(item, spec.choices, n=1)
                raise UserError(wrong + (f"; perhaps you meant {near[0]}" if near else ""))
    try:
        return spec.instance_from_str(text)
    except ValueError as error:
        reason = f" ({error})" if _is_options(hint) else _hint_for_whole(hint, text)
        raise UserError(wrong + reason) from error


def _hint_for_extra(text: list[str], wanted: int) -> str:
    files = [item for item in text[wanted:] if item.endswith((".yaml", ".yml"))]
    return f" (the configuration file '{files[0]}' comes before the flags)" if files else ""


def _hint_for_whole(hint: Any, text: list[str]) -> str:
    try:
        number = float(text[0])
        return f"; perhaps you meant {int(number)}" if hint is int and number == int(number) else ""
    except (ValueError, OverflowError, IndexError):
        return ""


def _expected(hint: Any) -> str:
    """What a value of this type looks like, in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    if hint in words:
        return words[hint]
    if _is_options(hint):
        return "KEY=VALUE pairs"
    if _accepts_none(hint):
        rest = [kind for kind in get_args(hint) if kind is not NoneType]
        return f"{_expected(rest[0])} or None" if len(rest) == 1 else f"of the form {_spec(hint).metavar}"
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if len(kinds) == 2 and kinds[1] is Ellipsis:
            return f"any number of values, each {_expected(kinds[0])}"
        return f"{len(kinds)} values, each {_expected(kinds[0])}"
    spec = _spec(hint)
    return f"one of {', '.join(spec.choices)}" if spec.choices else f"of the form {spec.metavar}"
