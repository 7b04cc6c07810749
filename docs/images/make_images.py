"""The README's picture: a recorded recovery, four moments of it, and the risk that the world model predicted.

    farl compare configs/quickstart.yaml
    python docs/images/make_images.py

Takes the recovery with the longest burst among the clips of the study's `farl` runs, or the clip named as argument. The
episode is played again from its seed, so the picture shows what happened in training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from farl import configuration, environments
from farl.compare.clips import Recording
from farl.online.run import OnlineConfig

STUDY = Path("studies/quickstart")
TARGET = Path(__file__).with_name("gate.png")
SHOWN = 70
"""agent steps under the pictures"""
RED, BLUE, AMBER, INK = "#d81e2c", "#1f5f99", "#b87400", "#333333"
CROP = (slice(155, 355), slice(125, 395))
"""rows and columns of the 480 x 480 picture that hold the table"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, nargs="?", help="RUN/clips/EPISODE.npz")
    path = parser.parse_args().clip or _most_gated(STUDY)
    record = Recording.read(path)
    steps = window(record)
    pictures = replay(path, record)
    draw(record, pictures, steps, moments(record, steps))
    print(f"{TARGET} shows {path}, steps {steps.start + 1} to {steps.stop}")


def _most_gated(study: Path) -> Path:
    clips = [path for path in study.glob("runs/*/farl/*/clips/*.npz") if Recording.read(path).kind == "recovery"]
    if not clips:
        raise SystemExit(f"no recovery was recorded below {study}; run `farl compare configs/quickstart.yaml` first")
    return max(clips, key=_burst_length)


def _burst_length(path: Path) -> int:
    begin, end = longest_burst(Recording.read(path))
    return end - begin


def longest_burst(record: Recording) -> tuple[int, int]:
    """First step of the longest stretch under recovery, and the first one after it."""
    edges = np.flatnonzero(np.diff(np.r_[False, record.gated, False].astype(int)))
    begin, end = max(zip(edges[::2], edges[1::2], strict=True), key=lambda burst: burst[1] - burst[0])
    return int(begin), int(end)


def window(record: Recording) -> slice:
    """The steps around the longest burst."""
    start = max(0, min(longest_burst(record)[0] - SHOWN // 3, len(record.actions) - SHOWN))
    return slice(start, min(len(record.actions), start + SHOWN))


def moments(record: Recording, steps: slice) -> list[int]:
    """Shortly before the longest burst of recovery, at its beginning and its end, and later."""
    begin, end = longest_burst(record)
    return [max(0, begin - 6), begin, end - 1, steps.stop - 1]


def replay(path: Path, record: Recording) -> list[np.ndarray]:
    """The scene after every step."""
    run = configuration.read(OnlineConfig, path.parents[1] / "config.yaml")
    env = environments.make(run.task, render_mode="rgb_array")
    env.reset(seed=record.seed)
    pictures = []
    for action in record.actions:
        env.step(action)
        pictures.append(np.asarray(env.render()))
    env.close()
    return pictures


def draw(record: Recording, pictures: list[np.ndarray], steps: slice, chosen: list[int]) -> None:
    """Four moments above the risk curve; a red frame means that recovery acts."""
    plt.rcParams.update({"font.size": 9, "font.family": "DejaVu Sans", "text.color": INK, "axes.edgecolor": "#999999"})
    figure = plt.figure(figsize=(9.6, 3.3), dpi=150)
    grid = figure.add_gridspec(2, 4, height_ratios=(1.75, 1), hspace=0.12, wspace=0.05)
    for column, step in enumerate(chosen):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(pictures[step][CROP], interpolation="lanczos")
        axes.set(xticks=[], yticks=[])
        gated = bool(record.gated[step])
        actor = "recovery acts" if gated else "task policy acts"
        axes.set_title(f"step {step + 1}: {actor}", fontsize=9, color=RED if gated else INK)
        for side in axes.spines.values():
            side.set(color=RED if gated else "#cccccc", linewidth=4 if gated else 1)
    curve = figure.add_subplot(grid[1, :])
    _curve(curve, record, steps, chosen)
    figure.subplots_adjust(left=0.06, right=0.99, top=0.93, bottom=0.14)
    figure.savefig(TARGET)


def _curve(axes: plt.Axes, record: Recording, steps: slice, chosen: list[int]) -> None:
    at = np.arange(steps.start, steps.stop) + 1
    for step in np.flatnonzero(record.gated[steps]) + steps.start + 1:
        axes.axvspan(step - 0.5, step + 0.5, color=RED, alpha=0.15, linewidth=0)
    axes.plot(at, record.risk[steps], color=BLUE, linewidth=1.6)
    axes.axhline(record.threshold, color=AMBER, linestyle="--", linewidth=1)
    top = min(1.0, 1.15 * float(np.nanmax(record.risk[steps])))
    axes.annotate(
        "threshold", (at[0], record.threshold), (2, 3), textcoords="offset points", color=AMBER, fontsize=8
    )
    axes.plot([step + 1 for step in chosen], record.risk[chosen], "o", color=BLUE, markersize=4)
    axes.set(xlim=(at[0] - 0.5, at[-1] + 0.5), ylim=(0, top), ylabel="risk")
    axes.set_xlabel("agent step", labelpad=1)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
