"""``diagnosis.json``: what the simulator said about a run's failures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from farl.diagnosis.causes import Part, Verdict, part_of
from farl.errors import UserError
from farl.files import write_json

FORMAT = 1
FILE = "diagnosis.json"


@dataclass(frozen=True)
class Examined:
    """One failing episode, played again."""

    episode: int
    seed: int
    lead: int | None
    """agent steps from recovery's takeover to the failure, None where it did not act within the look-back"""
    replayed: bool
    """whether it failed again at the same step; nothing was tried where it did not"""
    saved_by: dict[int, list[str]] = field(default_factory=dict)
    """agent steps before the failure -> what avoids it from there; empty where nothing that was tried does"""

    def avoidable(self, lead: int) -> bool:
        """Whether something avoids it from ``lead`` steps before, or from later: until then one may do as was done."""
        return any(names for steps, names in self.saved_by.items() if steps <= lead)

    @property
    def verdict(self) -> Verdict | None:
        if not self.saved_by:
            return None
        takeover = None if self.lead is None or self.lead not in self.saved_by else self.avoidable(self.lead)
        return Verdict(takeover, any(self.saved_by.values()))


@dataclass(frozen=True)
class Diagnosis:
    """What was examined of a run, and how."""

    episodes: int = 0
    """lines of ``episodes.jsonl`` that were read"""
    settings: dict[str, Any] = field(default_factory=dict)
    oracle: str | None = None
    """why nothing could be tried in the simulator, None where it could"""
    recovery: str | None = None
    """why the bundle's recovery policy could not be tried"""
    examined: dict[int, Examined] = field(default_factory=dict)
    """by episode"""

    def write(self, run: Path) -> None:
        rows = [asdict(one) for one in self.examined.values()]
        write_json(run / FILE, {"format": FORMAT, **asdict(self), "examined": rows})

    def part(self, line: Mapping[str, Any], needed: int, gated: bool) -> Part:
        """What a failing episode is put down to, with the simulator's verdict where there is one."""
        one = self.examined.get(line["episode"])
        if one is None or one.seed != line["seed"]:
            return part_of(line, needed, gated)
        return part_of({"lead": one.lead, **line}, needed, gated, one.verdict)

    def avoided(self) -> list[Avoided]:
        """What would have avoided the failures from the fixed numbers of steps before them, and from where recovery took over."""
        judged = list(self.examined.values())
        leads = self.settings.get("leads", ())
        rows = [_avoided(f"{lead} before", [(one, lead) for one in judged if lead in one.saved_by]) for lead in leads]
        rows.append(_avoided("takeover", [(one, one.lead) for one in judged if one.lead in one.saved_by]))
        return [row for row in rows if row.count]


@dataclass(frozen=True)
class Avoided:
    """What would have avoided some failures."""

    place: str
    """from where: ``10 before`` (agent steps), ``takeover``"""
    count: int
    """failures examined there"""
    ways: dict[str, int]
    """by what avoids it"""
    avoidable: int
    """by anything, from there or later"""


def _avoided(place: str, there: list[tuple[Examined, Any]]) -> Avoided:
    names = [name for one, lead in there for name in one.saved_by[lead]]
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return Avoided(place, len(there), counts, sum(one.avoidable(lead) for one, lead in there))


def read_diagnosis(run: Path) -> Diagnosis:
    """The run's diagnosis; an empty one where there is none, or where it is another version's.

    Raises UserError if the file is damaged.
    """
    path = run / FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Diagnosis()
    except (json.JSONDecodeError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}. Remove it; `farl diagnose` makes it again.") from error
    if record.pop("format", None) != FORMAT:
        return Diagnosis()
    examined = [_examined(row) for row in record.pop("examined")]
    return Diagnosis(**record, examined={one.episode: one for one in examined})


def _examined(row: dict[str, Any]) -> Examined:
    return Examined(**{**row, "saved_by": {int(lead): names for lead, names in row["saved_by"].items()}})
