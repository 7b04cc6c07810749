"""How good and how safe a policy is, in numbers that can be compared: 100 fixed episodes, one result file, one table.

python -m failurebench.evaluate --task FailureBench/BoundedPush-v0 --policy task --out result.json
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium

from failurebench import FRANKA, TASKS
from failurebench.env import FailureEnv
from failurebench.policies import Env, Refused, make_policy
from failurebench.references import PATH, POLICIES, constants, load_references
from failurebench.results import FORMAT, require_free, table, write_json
from failurebench.rollouts import play, starts_hash
from failurebench.scores import mean, normalised, summarise
from failurebench.versions import installed_versions, model_hash

FIRST_SEED = 9_000_000_000_000_000
"""episodes are evaluated from this seed on; ``farl`` trains and records on smaller ones"""

EPISODES = 100

SAME_TASK = ("constants", "starts")
"""what must agree for a score's constants to apply"""

IDS = {**TASKS, **FRANKA}

Tell = Callable[[str, int, int], None]


def evaluate(
    task: str,
    policy: str,
    *,
    options: dict[str, Any] | None = None,
    episodes: int = EPISODES,
    full_length: bool = True,
    tell: Tell = lambda label, done, total: None,
) -> dict[str, Any]:
    """Evaluate a policy; the same arguments and versions give the same result, number for number.

    Args:
        task: an id from ``failurebench.TASKS`` or ``failurebench.FRANKA``.
        policy: as ``failurebench.policies.make_policy`` takes it.
        options: keyword arguments of the environment, without ``stop_on_success``.
        episodes: how many; results are comparable between equal numbers, and 100 is the published one.
        full_length: play the episodes once more without stopping at success, for the return the score is made of.
        tell: called with a label, the episodes done and their number.

    Returns:
        A dict of plain values, as in the result file.

    Raises:
        Refused: an unknown task, policy or option, or an action that the environment refuses.
    """
    question = _question(task, policy, options or {}, episodes)
    env = _make(question, stop_on_success=True)
    seeds = range(FIRST_SEED, FIRST_SEED + episodes)
    outcomes = play(env, make_policy(policy, env), seeds, lambda done: tell("until success", done, episodes))
    unwrapped = env.unwrapped
    assert isinstance(unwrapped, FailureEnv)
    protocol = {**asdict(unwrapped.protocol), "max_episode_steps": env.spec.max_episode_steps if env.spec else None}
    result: dict[str, Any] = {
        "format": FORMAT,
        **question,
        "constants": json.loads(json.dumps(vars(unwrapped.task))),  # tuples as the file will have them
        "starts": starts_hash(unwrapped, range(FIRST_SEED, FIRST_SEED + EPISODES)),
        "protocol": protocol,
        "agent_step_s": protocol["action_repeat"] / unwrapped.interface.steps_per_s,
        "versions": installed_versions(unwrapped.interface.models),
        "model": model_hash(unwrapped.model),
        "until_success": asdict(summarise(outcomes)),
        "full_length": None,
        "normalised_score": None,
        "notes": [],
        "episodes": [asdict(outcome) for outcome in outcomes],
    }
    env.close()
    if full_length:
        env = _make(question, stop_on_success=False)
        outcomes = play(env, make_policy(policy, env), seeds, lambda done: tell("full length", done, episodes))
        env.close()
        result["full_length"] = asdict(summarise(outcomes))
        result["full_length_episodes"] = [asdict(outcome) for outcome in outcomes]
    return _scored(result, load_references().get(question["task"]))


def _question(task: str, policy: str, options: dict[str, Any], episodes: int) -> dict[str, Any]:
    task = task.removeprefix("failurebench:")
    if task not in IDS:
        near = difflib.get_close_matches(task, IDS, 1, 0.0)
        raise Refused(f"unknown task {task!r}; did you mean {near[0]}? The choices are {', '.join(IDS)}")
    for key in ("stop_on_success", "render_mode"):
        if key in options:
            raise Refused(
                f"option {key} is not yours to set: an evaluation plays both with and without stopping, unseen"
            )
    if episodes < 1:
        raise Refused(f"episodes is {episodes}; give 1 or more")
    seeds = {"first": FIRST_SEED, "count": episodes}
    return {"task": task, "options": options, "policy": policy, "seeds": seeds}


def _make(question: dict[str, Any], stop_on_success: bool) -> Env:
    try:
        return gymnasium.make(
            question["task"], disable_env_checker=True, stop_on_success=stop_on_success, **question["options"]
        )
    except (TypeError, ValueError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in question["options"].items())
        raise Refused(f"{question['task']} cannot be made with {given}: {error}") from error


def _scored(result: dict[str, Any], reference: dict[str, Any] | None) -> dict[str, Any]:
    """Add the normalised score where there are constants for it, or a note that says why there are none."""
    notes = result["notes"]
    if result["seeds"]["count"] != EPISODES:
        notes.append(f"{result['seeds']['count']} episodes; published numbers are of {EPISODES}")
    if result["full_length"] is None:
        notes.append("no normalised score: it is made of full-length returns")
    elif result["options"]:
        notes.append("no normalised score: its constants belong to the task without options")
    elif reference is None:
        notes.append("no normalised score: there are no constants for this task yet (--make-references)")
    elif any(reference.get(key) != result[key] for key in SAME_TASK):
        notes.append("no normalised score: its constants were measured when the task was another (--make-references)")
    else:
        returns = mean([one["episode_return"] for one in result["full_length_episodes"]])
        score = normalised(returns, reference)
        result["normalised_score"] = None if score is None else asdict(score)
        if reference["model"] != result["model"]:
            theirs = reference["versions"]["mujoco"]
            notes.append(f"the score's constants were measured with another compiled model (MuJoCo {theirs})")
    return result


def make_references(tasks: Sequence[str], path: Path, tell: Tell) -> None:
    """Measure random policy and expert on each task, and keep what scores are normalised by; other tasks stay as they are."""
    references = load_references(path)
    for task in tasks:
        results = {
            name: evaluate(
                task, policy, tell=lambda *at, name=name, task=task: tell(f"{task} {name}, {at[0]}", *at[1:])
            )
            for name, policy in POLICIES.items()
        }
        about = {key: results["expert"][key] for key in (*SAME_TASK, "model", "versions", "seeds")}
        references[task] = {**{name: constants(result) for name, result in results.items()}, **about}
        # After each, so that an interrupted measurement keeps what it has.
        write_json(path, {one: references[one] for one in IDS if one in references})


class Progress:
    """A line that is overwritten on a terminal, and one every ten seconds elsewhere."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 10.0

    def __call__(self, label: str, done: int, total: int) -> None:
        """Report ``done`` of ``total`` episodes."""
        line = f"{label}: {done}/{total}"
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + 10.0
            print(line, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Wipe the line, so that what follows begins at its start."""
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _option(text: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with the value in JSON, or as it stands."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m failurebench.evaluate", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--task", metavar="ID", help=f"one of {', '.join(IDS)}")
    parser.add_argument(
        "--policy",
        metavar="NAME",
        help="random, zero, a scripted kind of the task (task, pusher, failure, recovery), or module:factory, "
        "where factory(env) returns act(obs) -> action",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the result, JSON")
    parser.add_argument(
        "--options", type=_option, nargs="+", default=[], metavar="KEY=VALUE", help="of the environment, values in JSON"
    )
    parser.add_argument(
        "--full-length",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="play once more without stopping at success: the normalised score needs it",
    )
    parser.add_argument(
        "--episodes", type=int, default=EPISODES, help=f"for a quick look; published numbers are of {EPISODES}"
    )
    parser.add_argument(
        "--make-references",
        action="store_true",
        help="measure the constants of the normalised score, of --task or of all",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 2 for what cannot be done as asked, 130 when interrupted."""
    arguments, progress = _parser().parse_args(argv), Progress()
    try:
        if arguments.make_references:
            tasks = [_question(arguments.task, "", {}, 1)["task"]] if arguments.task else list(IDS)
            make_references(tasks, arguments.out or PATH, progress)
            progress.clear()
            print(f"constants of {len(tasks)} tasks: {arguments.out or PATH}")
            return 0
        missing = [f"--{key}" for key in ("task", "policy", "out") if getattr(arguments, key) is None]
        if missing:
            raise Refused(f"{', '.join(missing)} missing; for example\n  {(__doc__ or '').strip().splitlines()[-1]}")
        options = dict(arguments.options)
        require_free(arguments.out, _question(arguments.task, arguments.policy, options, arguments.episodes))
        result = evaluate(
            arguments.task,
            arguments.policy,
            options=options,
            episodes=arguments.episodes,
            full_length=arguments.full_length,
            tell=progress,
        )
        write_json(arguments.out, result)
    except Refused as error:
        progress.clear()
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    progress.clear()
    print(f"{table(result)}\n-> {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
