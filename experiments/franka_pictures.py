"""The pictures of the Franka tasks' pages: an episode that fails, at its start, under way, and at its first failing step.

    python -m experiments.franka_pictures

One PNG per task, named as its page.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gymnasium
import imageio.v3 as imageio
import numpy as np

import failurebench  # noqa: F401  (registers the ids)
from experiments.experts_pages import page_of

FOLDER = Path("docs/images")
LONGEST = 150


class Shot(NamedTuple):
    """Which episode, and the agent step of the picture in the middle."""

    kind: str
    seed: int
    middle: int


SHOTS = {
    "FailureBench/FrankaFragilePushWall-v0": Shot("failure", 0, 40),
    "FailureBench/FrankaDisturbedPush-v0": Shot("failure", 4, 8),
    "FailureBench/FrankaBoundedSoccer-v0": Shot("failure", 1, 15),
}


def strip(task: str, shot: Shot) -> np.ndarray:
    """uint8[320, 960, 3]: three pictures beside each other."""
    env = gymnasium.make(task, render_mode="rgb_array", disable_env_checker=True).unwrapped
    obs, _ = env.reset(seed=shot.seed)
    expert = env.expert(shot.kind)
    expert.reset(np.random.default_rng(shot.seed))
    pictures = [env.render()]
    for step in range(LONGEST):
        obs, *_, info = env.step(expert.act(obs))
        if step == shot.middle or info["failure"]:
            pictures.append(env.render())
        if info["failure"]:
            break
    env.close()
    print(f"{task}: {info['failure_type']} ({info['failure_detail']}) at step {step + 1}, {len(pictures)} pictures")
    beside = np.concatenate(pictures, axis=1)
    rows, columns = np.arange(0, beside.shape[0], 1.5).astype(int), np.arange(0, beside.shape[1], 1.5).astype(int)
    return beside[rows][:, columns]


def main() -> None:
    for task, shot in SHOTS.items():
        path = FOLDER / page_of(task).replace(".md", ".png")
        imageio.imwrite(path, strip(task, shot))
        print(path)


if __name__ == "__main__":
    main()
