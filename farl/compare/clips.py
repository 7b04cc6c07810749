"""Clips of failures and recoveries: a recorded episode is played again from its seed, and drawn with its risk.

Rendering runs in a process of its own, because a missing or broken graphics library can take its process down with it, and the
report must come out nevertheless.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from farl import environments
from farl.compare.palette import AMBER, BLUE, VERMILLION
from farl.compare.records import Run, without_books
from farl.errors import UserError
from farl.files import write_atomically, write_json

Frame = NDArray[np.uint8]

FRAMES = 80
"""frames of a clip; a software renderer takes about a tenth of a second for each"""
SIDE, CURVE, BORDER = 320, 80, 6
SCALE, PAD = 3, 18
GROUND, PALE = "#14171c", "#c9cfd8"
FPS = 15
TIME_LIMIT_S = 180


@dataclass(frozen=True)
class Recording:
    """``clips/EPISODE.npz``: what an episode did, enough to play it again."""

    seed: int
    actions: NDArray[np.float32]
    risk: NDArray[np.float32]
    gated: NDArray[np.bool_]
    failure: NDArray[np.bool_]
    threshold: float
    kind: str
    end_step: int

    @classmethod
    def read(cls, path: Path) -> Recording:
        with np.load(path, allow_pickle=False) as data:
            return cls(
                seed=int(data["seed"]),
                actions=data["actions"],
                risk=data["risk"],
                gated=data["gated"].astype(bool),
                failure=data["failure"].astype(bool),
                threshold=float(data["threshold"]),
                kind=str(data["kind"]),
                end_step=int(data["end_step"]),
            )

    def window(self, frames: int = FRAMES) -> slice:
        """The steps to show: around the first failure, or around the longest recovery."""
        moment = int(self.failure.argmax()) if self.failure.any() else _longest_burst(self.gated)
        start = max(0, min(moment - (2 * frames) // 3, len(self.actions) - frames))
        return slice(start, min(len(self.actions), start + frames))


@dataclass(frozen=True)
class Clip:
    """A finished video."""

    video: Path
    method: str
    seed: int
    episode: str
    kind: str
    end_step: int
    steps: tuple[int, int]
    length: int
    matches: bool
    """whether the replay failed at the same steps as the recorded episode"""


def pick(runs: list[Run], each: int = 1) -> list[tuple[Run, Path]]:
    """For every method the last recoveries and the last failures on record."""
    chosen: list[tuple[Run, Path]] = []
    for method in dict.fromkeys(run.method for run in runs):
        found = [(run, path) for run in runs if run.method == method for path in run.folder.glob("clips/*.npz")]
        dated = [
            (recording.kind, recording.end_step, run, path)
            for run, path in found
            for recording in [Recording.read(path)]
        ]
        for kind in ("recovery", "failure"):
            latest = sorted((item for item in dated if item[0] == kind), key=lambda item: item[1], reverse=True)
            chosen += [(run, path) for _, _, run, path in latest[:each]]
    return chosen


def render(run: Run, recording: Path, video: Path | None = None) -> Clip:
    """The video of a recording, in the run's ``videos/`` if not said otherwise, from an earlier time where it is still there.

    Raises UserError, saying what is missing, where the task cannot be rendered on this machine.
    """
    video = video or run.folder / "videos" / f"{recording.stem}.mp4"
    if not _current(video, recording):
        _render_elsewhere(run.folder, recording, video)
    facts = json.loads(_facts_file(video).read_text(encoding="utf-8"))
    return Clip(
        video=video,
        method=run.method,
        seed=run.seed,
        episode=recording.stem,
        **{**facts, "steps": tuple(facts["steps"])},
    )


def _current(video: Path, recording: Path) -> bool:
    facts = _facts_file(video)
    return video.exists() and facts.exists() and facts.stat().st_mtime >= recording.stat().st_mtime


def _facts_file(video: Path) -> Path:
    return video.with_suffix(".json")


def _render_elsewhere(run: Path, recording: Path, video: Path) -> None:
    """Draw in another process, with the machine's own choice of OpenGL first and then those that need no screen."""
    backends = [None] if os.environ.get("MUJOCO_GL") else [None, "egl", "osmesa"]
    reasons = [reason for backend in backends if (reason := _attempt(run, recording, video, backend)) is not None]
    if len(reasons) == len(backends):
        raise UserError(reasons[0])


def _attempt(run: Path, recording: Path, video: Path, backend: str | None) -> str | None:
    """Why it could not be drawn, None if it was; raises UserError for what no other backend would change."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if backend is not None:
        environment |= {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    command = [sys.executable, "-m", "farl.compare.clips", str(run), str(recording), str(video)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"rendering {recording} took longer than {TIME_LIMIT_S} s and was given up") from None
    if done.returncode == 2:
        raise UserError(done.stderr.strip())
    if done.returncode == 0:
        return None
    said = done.stderr.strip().splitlines()
    return said[-1].removeprefix("RuntimeError: ") if said else f"the renderer stopped with status {done.returncode}"


# ---------------------------------------------------------------- inside the rendering process


def replay(run: Run, recording: Path, video: Path) -> Clip:
    """Play the episode again and write its video."""
    record = Recording.read(recording)
    env = environments.make(run.task_config(), render_mode="rgb_array")
    window = record.window()
    frames, failure = [], []
    env.reset(seed=record.seed)
    for step, action in enumerate(record.actions):
        *_, info = env.step(action)
        failure.append(bool(info["failure"]))
        if window.start <= step < window.stop:
            frames.append(draw(_rendered(env, run), record, step, window))
    env.close()
    write_atomically(video, lambda path: encode(path, frames))
    clip = Clip(
        video, run.method, run.seed, recording.stem, record.kind, record.end_step, (window.start, window.stop), len(record.actions),
        matches=bool(np.array_equal(failure, record.failure)),
    )   # fmt: skip
    facts = dataclasses.asdict(clip)
    write_json(_facts_file(video), {key: facts[key] for key in ("kind", "end_step", "steps", "length", "matches")})
    return clip


def _rendered(env: Any, run: Run) -> Frame:
    picture = env.render()
    if picture is None:
        raise UserError(f"{run.task} has no render_mode 'rgb_array', so there are no clips")
    return np.asarray(picture, dtype=np.uint8)


def draw(picture: Frame, record: Recording, step: int, window: slice) -> Frame:
    """One frame: the scene with a border while recovery acts, and the risk so far underneath."""
    canvas = Image.new("RGB", (SIDE, SIDE + CURVE), GROUND)
    canvas.paste(_square(picture), (0, 0))
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13)
    if record.gated[step]:
        pen.rectangle((0, 0, SIDE - 1, SIDE - 1), outline="#e11d2e", width=BORDER)
        _label(pen, (12, 12), "recovery acts", "#e11d2e", font)
    if record.failure[step]:
        _label(pen, (12, SIDE - 32), "failure", VERMILLION.light, font)
    _label(pen, (SIDE - 74, 12), f"step {step + 1}", GROUND, font)
    canvas.paste(_risk_curve(record, step, window), (0, SIDE))
    return np.asarray(canvas, dtype=np.uint8)


def _square(picture: Frame) -> Image.Image:
    image = Image.fromarray(picture)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _label(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, colour: str, font: Any) -> None:
    box = pen.textbbox(at, text, font=font)
    pen.rectangle((box[0] - 5, box[1] - 3, box[2] + 5, box[3] + 3), fill=colour)
    pen.text(at, text, fill="white", font=font)


def _risk_curve(record: Recording, step: int, window: slice) -> Image.Image:
    """The risk from the window's first step to this one; drawn at three times the size, so that it comes out smooth."""
    image = Image.new("RGB", (SIDE * SCALE, CURVE * SCALE), GROUND)
    pen = ImageDraw.Draw(image)
    if not np.isfinite(record.threshold):
        pen.text((PAD, PAD), "no gate", fill=PALE, font=ImageFont.load_default(12 * SCALE))
        return image.resize((SIDE, CURVE), Image.Resampling.LANCZOS)
    at = _Axes(window.stop - window.start, top=max(3 * record.threshold, _highest(record), 1e-6))
    risk = np.nan_to_num(record.risk[window], nan=at.top)[: step - window.start + 1]   # not known counts as not safe
    for index in np.flatnonzero(record.gated[window][: len(risk)]):
        x = at.x(int(index))
        pen.rectangle((x - 5, at.y(at.top), x + 5, at.y(0)), fill="#4a1a20")
    for x in range(PAD, SIDE * SCALE - PAD, 24):
        pen.line((x, at.y(record.threshold), x + 12, at.y(record.threshold)), fill=AMBER.dark, width=SCALE)
    points = [(at.x(index), at.y(float(value))) for index, value in enumerate(risk)]
    pen.line([points[0], *points], fill=BLUE.dark, width=2 * SCALE, joint="curve")
    (x, y) = points[-1]
    pen.ellipse((x - 9, y - 9, x + 9, y + 9), fill="white")
    said = f"predicted risk {record.risk[step]:.2g}, threshold {record.threshold:.2g}"
    pen.text((PAD, PAD // 2), said, fill=PALE, font=ImageFont.load_default(12 * SCALE))
    return image.resize((SIDE, CURVE), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class _Axes:
    """Where steps and risks lie on the strip."""

    steps: int
    top: float

    def x(self, index: int) -> int:
        return PAD + round((SIDE * SCALE - 2 * PAD) * index / max(1, self.steps - 1))

    def y(self, risk: float) -> int:
        return CURVE * SCALE - PAD - round((CURVE * SCALE - 4 * PAD) * min(risk, self.top) / self.top)


def _highest(record: Recording) -> float:
    finite = record.risk[np.isfinite(record.risk)]
    return float(finite.max()) if len(finite) else 0.0


def encode(path: Path, frames: list[Frame]) -> None:
    """An H.264 video that browsers play, of some hundred kilobytes."""
    import imageio_ffmpeg

    height, width, _ = frames[0].shape
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=FPS, codec="libx264", quality=None, macro_block_size=16, ffmpeg_log_level="error",
        output_params=["-f", "mp4", "-crf", "27", "-preset", "slow", "-movflags", "+faststart", "-threads", "1"],
    )   # fmt: skip
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def _longest_burst(gated: NDArray[np.bool_]) -> int:
    """The first step of the longest stretch under recovery."""
    changes = np.flatnonzero(np.diff(np.r_[False, gated, False].astype(np.int8)))
    starts, ends = changes[::2], changes[1::2]
    return int(starts[(ends - starts).argmax()]) if len(starts) else 0


if __name__ == "__main__":
    try:
        folder, file, out = map(Path, sys.argv[1:])
        print(replay(without_books(folder), file, out).video)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
