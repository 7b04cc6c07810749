"""``farl diagnose``: examine the failures of runs in the simulator, and say where they come from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from farl.diagnosis.causes import WORDS
from farl.diagnosis.facts import has_gate, needed_lead
from farl.diagnosis.kept import KeptFailure, kept_failures
from farl.diagnosis.oracle import LEADS, Oracle
from farl.diagnosis.record import Diagnosis, Examined, read_diagnosis
from farl.environments import TaskConfig
from farl.errors import UserError
from farl.files import read_jsonl
from farl.offline.bundle import OfflineBundle
from farl.progress import Progress
from farl.types import Policy


@dataclass(frozen=True)
class DiagnoseConfig:
    """How closely the failures are looked at."""

    failures: int = 200
    """failing episodes of a run to examine in the simulator, spread evenly over it; the others are judged by their record alone"""
    steps: int = 30
    """agent steps for which a failure must stay away to count as avoided"""
    seed: int = 0
    """of the actions that are tried"""

    def __post_init__(self) -> None:
        for name, least in (("failures", 0), ("steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")


def diagnose(run: Path, config: DiagnoseConfig) -> Diagnosis:
    """Examine the run's kept failures, write ``diagnosis.json`` into it and return it.

    What has been examined with the same settings before is not examined again. Raises UserError where ``run`` is no run
    directory or cannot be read.
    """
    facts = _read(run)
    failing = {line["episode"]: line for line in facts.episodes if line["failed"]}
    settings = {"steps": config.steps, "seed": config.seed, "leads": list(LEADS)}
    known = read_diagnosis(run)
    kept = [one for one in kept_failures(run).values() if _same(one, failing.get(one.episode))]
    chosen = _spread(sorted(kept, key=lambda one: one.episode), config.failures)
    recovery, why_not = _recovery(facts)
    before = known.examined if (known.settings, known.recovery) == (settings, why_not) else {}
    try:
        oracle = Oracle(facts.task, recovery, config.steps, config.seed)
    except UserError as error:
        found = Diagnosis(len(facts.episodes), settings, str(error), why_not)
    else:
        examined = _examine_all(oracle, chosen, before, run)
        found = Diagnosis(len(facts.episodes), settings, None, why_not, examined)
    found.write(run)
    return found


def runs_in(paths: Sequence[Path]) -> list[Path]:
    """Run directories among ``paths``, and those of the studies among them; raises UserError for anything else."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(p.parent for p in path.glob("runs/*/*/*/episodes.jsonl"))
        if (path / "episodes.jsonl").exists():
            inside = [path]
        if not inside:
            raise UserError(f"{path} is neither a run (it has no episodes.jsonl) nor a study with runs in it")
        found += inside
    return found


def describe(run: Path, found: Diagnosis) -> str:
    """The diagnosis as lines of text."""
    facts = _read(run)
    failing = [line for line in facts.episodes if line["failed"]]
    needed, gated = needed_lead(facts.config), has_gate(facts.meta, facts.episodes)
    parts = [found.part(line, needed, gated) for line in failing]
    lines = [f"{run}: {facts.config.get('method', 'run')}, {len(failing)} failing of {len(facts.episodes):,} episodes"]
    lines += [f"  {words:<24}{parts.count(part):>6}" for part, words in WORDS.items() if part in parts]
    details = [line.get("failure_detail") for line in failing]
    lines += [f"  {detail:<24}{details.count(detail):>6}" for detail in sorted({d for d in details if d})]
    return "\n".join([*lines, *_avoided(found, len(failing))])


def _avoided(found: Diagnosis, failing: int) -> Iterable[str]:
    if found.oracle:
        yield f"  not tried in the simulator: {found.oracle}"
        return
    replayed = [one for one in found.examined.values() if one.replayed]
    yield f"  examined in the simulator: {len(replayed)} of {failing}"
    if len(replayed) < len(found.examined):
        yield f"  {len(found.examined) - len(replayed)} did not fail again at the same step: another task version?"
    for row in found.avoided():
        each = ", ".join(f"{name} {number}" for name, number in row.ways.items())
        yield f"  avoidable from {row.place + ':':<12}{row.avoidable:>4} of {row.count}" + (f" ({each})" if each else "")
    if found.recovery:
        yield f"  the bundle's recovery was not tried: {found.recovery}"


@dataclass(frozen=True)
class _Facts:
    task: TaskConfig
    config: Mapping[str, Any]
    meta: Mapping[str, Any]
    episodes: Sequence[Mapping[str, Any]]


def _read(run: Path) -> _Facts:
    try:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        task = TaskConfig(config["task"]["id"], dict(config["task"].get("options") or {}))
        meta = json.loads((run / "meta.json").read_text(encoding="utf-8")) if (run / "meta.json").exists() else {}
        episodes = list(read_jsonl(run / "episodes.jsonl"))
    except (OSError, yaml.YAMLError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{run} is not a run that can be read ({error}); give a folder made by `farl online`") from error
    return _Facts(task, config, meta, episodes)


def _recovery(facts: _Facts) -> tuple[Policy | None, str | None]:
    """The recovery policy of the run's bundle, or why there is none."""
    try:
        return OfflineBundle.load(Path(str(facts.config.get("bundle", ""))), facts.task).recovery, None
    except UserError as error:
        return None, str(error)


def _examine_all(
    oracle: Oracle, chosen: Sequence[KeptFailure], before: Mapping[int, Examined], run: Path
) -> dict[int, Examined]:
    progress = Progress(None, f"diagnose {run}")
    progress.stage("failures tried again", len(chosen))
    examined = {}
    for done, kept in enumerate(chosen):
        progress.at(done, force=done == 0)
        old = before.get(kept.episode)
        examined[kept.episode] = old if old is not None and old.seed == kept.seed else examine(oracle, kept)
    progress.at(len(chosen), force=True)
    oracle.close()
    return examined


def examine(oracle: Oracle, kept: KeptFailure) -> Examined:
    """Try to avoid one failure from its takeover and from the fixed numbers of steps before it."""
    leads = {lead for lead in (*LEADS, kept.lead) if lead is not None and lead <= kept.onset} or {kept.onset}
    states = oracle.states(kept, leads)
    saved = {lead: oracle.saved_by(states[lead]) for lead in sorted(states)} if states is not None else {}
    return Examined(kept.episode, kept.seed, kept.lead, states is not None, saved)


def _same(kept: KeptFailure, line: Mapping[str, Any] | None) -> bool:
    """Whether a kept episode is the one on record: clips of an earlier, deleted stretch of a run stay behind."""
    return line is not None and (kept.seed, kept.onset) == (line["seed"], line["first_failure"])


def _spread(kept: Sequence[KeptFailure], count: int) -> list[KeptFailure]:
    """At most ``count``, evenly over the run."""
    if len(kept) <= count:
        return list(kept)
    return [kept[place * len(kept) // count] for place in range(count)]
