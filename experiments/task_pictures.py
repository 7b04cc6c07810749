"""The pictures of the task pages: an episode of the task expert under way, inside the published and the harder hazard.

    python -m experiments.task_pictures

One PNG per task, named as its page; the hazard is outlined in red, the goal is the green dot.
"""

from __future__ import annotations

from pathlib import Path

import gymnasium
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import failurebench
from experiments.experts_pages import page_of

FOLDER = Path("docs/images")
STEPS = 12
"""agent steps of the task expert before the picture is taken"""
CROP = (slice(90, 380), slice(60, 450))
"""rows and columns of the 480 x 480 picture that hold the table"""


def picture(task: str) -> np.ndarray:
    """The scene ``STEPS`` agent steps into an episode of seed 0."""
    env = gymnasium.make(task, render_mode="rgb_array", disable_env_checker=True).unwrapped
    obs, _ = env.reset(seed=0)
    expert = env.expert("task")
    expert.reset(np.random.default_rng(0))
    for _ in range(STEPS):
        obs, *_ = env.step(expert.act(obs))
    pixels = env.render()
    env.close()
    return pixels[CROP]


def main() -> None:
    families: dict[str, list[str]] = {}
    for task in failurebench.TASKS:
        families.setdefault(page_of(task).removesuffix(".md"), []).append(task)
    for page, tasks in families.items():
        figure, axes = plt.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 3.4), squeeze=False)
        for axis, task in zip(axes[0], tasks, strict=True):
            axis.imshow(picture(task))
            axis.set_title(task.partition("/")[2], fontsize=10)
            axis.axis("off")
        figure.tight_layout()
        figure.savefig(FOLDER / f"{page}.png", dpi=110)
        plt.close(figure)
        print(FOLDER / f"{page}.png")


if __name__ == "__main__":
    main()
