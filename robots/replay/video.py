"""An episode as a video: as fast as it went, a frame a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from failurebench.franka.definition import CONTROL_HZ
from robots.errors import RobotError
from robots.replay.frame import Painter
from robots.replay.recording import Episode

LAST = 10
"""times the last frame is repeated: a second to read it"""


def check_video(path: Path) -> None:
    """Raise RobotError for a path that cannot become a video, before anything is drawn."""
    if path.suffix != ".mp4":
        raise RobotError(f"--video is {path}; give a name that ends with .mp4")
    if path.exists():
        raise RobotError(f"{path} is there already and is not overwritten; give another name, or move it away")
    if not path.parent.is_dir():
        raise RobotError(f"there is no folder {path.parent} for {path.name}; make it, or give another place")


def write_video(painter: Painter, episode: Episode, path: Path) -> None:
    """Write ``path``, which appears when it is whole."""
    try:
        import imageio.v2 as imageio
    except ImportError as error:
        raise RobotError(f"videos need imageio, which is not here ({error}): pip install 'imageio[ffmpeg]'") from error
    check_video(path)
    part = path.with_name(f".{path.stem}.part.mp4")
    try:
        writer: Any = imageio.get_writer(
            part, fps=CONTROL_HZ, codec="libx264", macro_block_size=16, ffmpeg_log_level="error"
        )
        with writer:
            for step in range(len(episode.steps)):
                frame = np.asarray(painter.draw(episode.steps, step))
                writer.append_data(frame)
            for _ in range(LAST):
                writer.append_data(frame)
        check_video(path)  # somebody else may have made it meanwhile
        part.replace(path)
    except OSError as error:
        raise RobotError(f"cannot write {path}: {error.strerror or error}; give another place") from error
    finally:
        part.unlink(missing_ok=True)
