"""How fast FailureBench steps, beside stock MetaWorld, bare MuJoCo and Gymnasium's vector environments.

    OMP_NUM_THREADS=1 python -m experiments.benchmark_env

Contestants take turns within a round, so that a busy moment touches all of them; ratios are taken round by round. Every
contestant plays the same episodes: the same starts, the same actions, resets and infos included. Stock is made as its own
documentation says, ``gymnasium.make("Meta-World/MT1", env_name=...)``.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
import psutil
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

import failurebench
from failurebench.sawyer import FRAME_SKIP, Sawyer
from failurebench.task import Start, Task

RESULT = Path("results/benchmark_env.md")
EPISODE = 500
"""simulator steps of an episode: stock's horizon, and 250 agent steps of ours"""

NOISE = 0.3
"""standard deviation of what is added to the expert's actions, of a range of -1 to 1"""

KINDS = {"random": 5, "in contact": 4, "until success": 4}
"""actions -> how many times faster than stock is the target"""

STOCK = {
    "FailureBench/BoundedPush-v0": ("push-v3", "SawyerPushV3Policy"),
    "FailureBench/BoundedSoccer-v0": ("soccer-v3", "SawyerSoccerV3Policy"),
    "FailureBench/FragilePushWall-v0": ("push-wall-v3", "SawyerPushWallV3Policy"),
}
"""our ids, the stock environments they are made of, and the scripted experts that come with those"""

PUSH, VASE = "FailureBench/BoundedPush-v0", "FailureBench/ObstructedPush-v0"
SIZES = (2, 4, 8, 16, 32, 64)
WORKERS = 2
MEMORY_ENVS = 64

Play = Callable[["Episode"], None]
Clock = Callable[[], Any]
"""seconds; an array of them where there are several kinds"""

Rates = dict[str, list[Any]]
"""contestant -> steps per second, a number a round"""


@dataclass(frozen=True)
class Episode:
    """What every contestant plays."""

    seed: int
    start: Start
    actions: np.ndarray
    """float32[steps, 4]"""
    targets: np.ndarray
    """float64[steps, 3], where those actions bring the hand's target"""


# --- one core ---------------------------------------------------------------------------------------------------------


def single(task: str) -> gymnasium.Env:
    """Ours step for step: one simulator step per action, starts from the whole of stock's ranges, nothing ends early."""
    return gymnasium.make(task, action_repeat=1, stop_on_success=False, max_episode_steps=EPISODE, start_range="full")


def stock(task: str) -> gymnasium.Env:
    """The environment of MetaWorld that ``task`` is made of."""
    import metaworld  # noqa: F401 (registers it; here, so that worker processes do not load it)

    return gymnasium.make("Meta-World/MT1", env_name=STOCK[task][0])


def reset_stock(env: gymnasium.Env, start: Start) -> np.ndarray:
    """A whole stock reset, to the start that was asked for instead of one of its fifty."""
    vector = np.array([*start.object, *start.goal])
    env.unwrapped._get_state_rand_vec = lambda: vector.copy()
    return env.reset()[0]


def record(task: str, seed: int, kind: str) -> Episode:
    """An episode of one of ``KINDS``, played by stock and by ours: they must agree."""
    from metaworld import policies

    rng = np.random.default_rng(seed)
    ours, theirs = single(task), stock(task)
    ours.reset(seed=seed)
    episode = ours.unwrapped._episode
    obs = reset_stock(theirs, episode.start)
    expert = getattr(policies, STOCK[task][1])()
    actions, targets = [], []
    while len(actions) < EPISODE:
        action = rng.uniform(-1, 1, 4) if kind == "random" else expert.get_action(obs) + NOISE * rng.standard_normal(4)
        action = np.clip(action, -1, 1).astype(np.float32)
        obs, *_, info = theirs.step(action)
        ours.step(action)
        actions.append(action)
        targets.append(theirs.unwrapped.data.mocap_pos[0].copy())
        if kind == "until success" and info["success"]:
            break
    if not np.allclose(obs[:7], ours.unwrapped.observation()[:7], rtol=0, atol=1e-6):
        raise RuntimeError(f"{task} is not where stock is after the same actions: the rates would not compare")
    return Episode(seed, episode.start, np.array(actions), np.array(targets))


def play_stock(env: gymnasium.Env, episode: Episode) -> None:
    """Stock MetaWorld."""
    reset_stock(env, episode.start)
    for action in episode.actions:
        env.step(action)


def play(env: gymnasium.Env, episode: Episode) -> None:
    """Ours."""
    env.reset(seed=episode.seed)
    for action in episode.actions:
        env.step(action)


def play_bare(task: Task, sawyer: Sawyer, episode: Episode) -> None:
    """The physics alone: put the hand's target where the actions bring it, and step."""
    model, data, step = sawyer.model, sawyer.data, mujoco.mj_step
    hand, ctrl = sawyer._mocap, data.ctrl
    sawyer.reset(episode.start.object, task.props(episode.start))
    for target, (*_, grip) in zip(episode.targets, episode.actions, strict=True):
        hand[:] = target
        ctrl[:] = grip, -grip
        step(model, data, nstep=FRAME_SKIP)


def one_core(task: str, kind: str, rounds: int, episodes: int) -> Rates:
    """Simulator steps per second of processor time: with one thread that is the time of a core that is ours alone."""
    plays = [record(task, seed, kind) for seed in range(episodes)]
    mine = single(task).unwrapped._episode
    return in_turns(
        {
            "stock": partial(all_of, partial(play_stock, stock(task)), plays),
            "ours": partial(all_of, partial(play, single(task)), plays),
            "bare": partial(all_of, partial(play_bare, mine.task, mine.sawyer), plays),
        },
        sum(len(one.actions) for one in plays),
        rounds,
    )


def all_of(play_one: Play, episodes: Iterable[Episode]) -> None:
    """Play them."""
    for episode in episodes:
        play_one(episode)


def in_turns(
    contestants: dict[str, Callable[[], None]], steps: int, rounds: int, clock: Clock = time.process_time
) -> Rates:
    """Steps per second of each, a round after a warm-up round; the order alternates."""
    rates: Rates = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name in sorted(contestants, reverse=turn % 2 == 1):
            began = clock()
            contestants[name]()
            if turn:
                rates[name].append(steps / (clock() - began))
    return rates


# --- the vase ---------------------------------------------------------------------------------------------------------


def vase_share(rounds: int, episodes: int) -> Rates:
    """Obstructed Push as it is, and with its distances left out."""
    from failurebench.episode import Episode as Running
    from failurebench.tasks.obstructed_push import ObstructedPush

    @dataclass(frozen=True)
    class Unmeasured(ObstructedPush):
        scene: ClassVar[Any] = ObstructedPush().scene

        def margin(self, sawyer: Sawyer, start: Start) -> float:
            return 1.0

    plays = [record(PUSH, seed, "in contact") for seed in range(episodes)]
    with_distances, without = single(VASE), single(VASE)
    without.unwrapped._episode = Running(Unmeasured(start_range="full"), without.unwrapped.protocol)
    contestants = {"measured": partial(play, with_distances), "unmeasured": partial(play, without)}
    steps = episodes * EPISODE
    return in_turns({name: partial(all_of, one, plays) for name, one in contestants.items()}, steps, rounds)


# --- many environments ------------------------------------------------------------------------------------------------


def vector(size: int, rounds: int, steps: int) -> tuple[Rates, Rates]:
    """Agent steps (two simulator steps each) of all environments together: per second, per second of processor time."""
    mode = gymnasium.vector.AutoresetMode.SAME_STEP
    makers = [partial(gymnasium.make, PUSH)] * size
    envs = {
        "one process": failurebench.make_vec(PUSH, size),
        "workers": failurebench.make_vec(PUSH, size, num_workers=WORKERS),
        "async": AsyncVectorEnv(makers, autoreset_mode=mode),
        "sync": SyncVectorEnv(makers, autoreset_mode=mode),
    }
    actions = np.random.default_rng(0).uniform(-1, 1, (max(1, steps // size), size, 4)).astype(np.float32)
    here = psutil.Process()
    everybody = [here, *here.children(recursive=True)]

    def clocks() -> np.ndarray:
        spent = [process.cpu_times() for process in everybody]
        return np.array([time.perf_counter(), sum(one.user + one.system for one in spent)])

    both = in_turns({name: partial(run, env, actions) for name, env in envs.items()}, actions.size // 4, rounds, clocks)
    for env in envs.values():
        env.close()
    wall, processor = ({name: [pair[i] for pair in pairs] for name, pairs in both.items()} for i in range(2))
    return wall, processor


def run(env: VectorEnv, actions: np.ndarray) -> None:
    """From the same reset, the same steps."""
    env.reset(seed=0)
    for action in actions:
        env.step(action)


def memory() -> dict[str, float]:
    """Megabytes that an environment takes: of this process, of each worker, of a process of AsyncVectorEnv's."""
    here = psutil.Process()
    failurebench.make_vec(PUSH, 1).reset(seed=0)  # the model and the libraries are shared by all
    gc.collect()
    before = here.memory_info().rss
    env = failurebench.make_vec(PUSH, MEMORY_ENVS)
    run(env, np.zeros((50, MEMORY_ENVS, 4), np.float32))
    grown = here.memory_info().rss - before
    split = failurebench.make_vec(PUSH, MEMORY_ENVS, num_workers=WORKERS)
    run(split, np.zeros((50, MEMORY_ENVS, 4), np.float32))
    workers = [worker.process.pid for worker in split._chunk._workers]
    theirs = AsyncVectorEnv([partial(gymnasium.make, PUSH)] * 2)
    run(theirs, np.zeros((50, 2, 4), np.float32))
    result = {
        "environment": grown / MEMORY_ENVS / 1e6,
        "worker": median(psutil.Process(pid).memory_full_info().uss for pid in workers) / 1e6,
        "async": median(psutil.Process(process.pid).memory_full_info().uss for process in theirs.processes) / 1e6,
    }
    for one in (env, split, theirs):
        one.close()
    return result


# --- the report -------------------------------------------------------------------------------------------------------


def ratios(rates: Rates, one: str, other: str) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(rates[one], rates[other], strict=True)]


def spread(values: list[float], form: str = ".2f") -> str:
    """The median, and from the smallest to the largest."""
    return f"{median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def core_table(results: dict[tuple[str, str], Rates]) -> list[str]:
    """Ours beside stock and bare MuJoCo."""
    lines = [
        "| task, actions | stock, steps/s | ours | bare `mj_step` | ours / stock | target | bare / stock | ours / bare |"
    ]
    lines += ["|---" * 8 + "|"]
    for (task, kind), rates in results.items():
        medians = " | ".join(f"{median(values):,.0f}" for values in rates.values())
        compared = [spread(ratios(rates, *pair)) for pair in (("ours", "stock"), ("bare", "stock"), ("ours", "bare"))]
        compared.insert(1, str(KINDS[kind]))
        lines.append(f"| {STOCK[task][0]}, {kind} | {medians} | {' | '.join(compared)} |")
    return lines


def vector_table(results: dict[int, tuple[Rates, Rates]]) -> list[str]:
    """Agent steps per second by number of environments, and what one takes of the processors."""
    names = ["one process", f"`num_workers={WORKERS}`", "AsyncVectorEnv", "SyncVectorEnv"]
    lines = [f"| environments | {' | '.join(names)} | workers / one process | workers / Async | one process / Async "]
    lines[0] += f"| {' | '.join(f'{name}, μs' for name in names)} |"
    lines += ["|---" * 12 + "|"]
    pairs = [("workers", "one process"), ("workers", "async"), ("one process", "async")]
    for size, (wall, processor) in results.items():
        cells = [f"{median(values):,.0f}" for values in wall.values()]
        cells += [spread(ratios(wall, *pair)) for pair in pairs]
        cells += [f"{1e6 / median(values):.0f}" for values in processor.values()]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return lines


def report(
    core: dict[tuple[str, str], Rates], vase: Rates, vectors: dict[int, tuple[Rates, Rates]], used: dict[str, float]
) -> str:
    """All of it, as markdown."""
    share = [1 - ratio for ratio in ratios(vase, "measured", "unmeasured")]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in ("mujoco", "metaworld", "gymnasium", "numpy"))
    lines = [
        "# Speed of the environments",
        "",
        f"`python -m experiments.benchmark_env{''.join(' ' + word for word in sys.argv[1:])}`",
        "",
        f"{packages}; Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores; load averages over "
        f"the last 1, 5 and 15 minutes {load}. Medians of rounds, (smallest-largest).",
        "",
        "## One core, beside stock MetaWorld and bare MuJoCo",
        "",
        "Simulator steps (12.5 ms) per second of processor time, through `gymnasium.make`, resets and infos included. All play "
        f"the same starts and actions. *Random*: uniform, {EPISODE} steps. *In contact*: stock's own expert with Gaussian noise "
        f"of {NOISE}, {EPISODE} steps, for the most part holding the object at the goal. *Until success*: the same, until the "
        "object is there for the first time, then a reset: as the published protocol ends episodes. Bare is `mj_step` with the "
        "same substeps, targets of the hand and resets, and nothing else: ours cannot be faster than stock by more than "
        "*bare / stock*. Target for *ours / bare*: 0.70.",
        "",
        *core_table(core),
        "",
        "## Obstructed Push",
        "",
        f"Distances from the vase to the arm's links, the hand and the puck take {spread(share)} of a step "
        f"(target: below 0.33): {median(vase['measured']):,.0f} steps/s with them, {median(vase['unmeasured']):,.0f} without.",
        "",
        "## Many environments",
        "",
        f"Agent steps (two simulator steps) per second of `{PUSH}`, all environments together, random actions, on the wall's "
        "clock; then the processor time of a step, of all processes together, in microseconds. Targets: workers / one process "
        "1.7 at 32 environments, and faster than AsyncVectorEnv at every size. Rates on the wall's clock mean something only on "
        "a machine with nothing else to do: where cores are contested, whoever has more processes is given more of them.",
        "",
        *vector_table(vectors),
        "",
        "## Memory",
        "",
        f"{used['environment']:.2f} MB for each further environment of a process ({MEMORY_ENVS} of them); "
        f"{used['worker']:.0f} MB of its own for a worker process with {MEMORY_ENVS // WORKERS} environments, "
        f"{used['async']:.0f} MB for each of AsyncVectorEnv's, which has one.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=8, help="per round and contestant on one core")
    parser.add_argument("--vector-steps", type=int, default=3200, help="agent steps per round and vector environment")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of environments")
    parser.add_argument("--output", type=Path, default=RESULT)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # stock leaves its observation space, and its experts their action space
    used = memory()
    vectors = {size: vector(size, asked.rounds, asked.vector_steps) for size in asked.sizes}
    core = {(task, kind): one_core(task, kind, asked.rounds, asked.episodes) for task in STOCK for kind in KINDS}
    tables = report(core, vase_share(asked.rounds, asked.episodes), vectors, used)
    print(tables)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(tables)


if __name__ == "__main__":
    main()
