"""``farl robot replay``: step through a recorded session on a page, or write an episode as a video."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robots.errors import RobotError
from robots.replay.frame import Painter
from robots.replay.recording import Recording, read_recording
from robots.replay.video import check_video, write_video
from robots.watch.loopback import check_port, serve


@dataclass(frozen=True)
class ReplayConfig:
    """What is shown of a recorded session, and how."""

    episode: int = 0
    """its number, counted from 1; 0 is the last"""

    video: Path | None = None
    """write the episode there, an .mp4, instead of serving a page; what is there already is never overwritten"""

    camera: str = ""
    """whose pictures are shown, by default the first camera there is; table draws the table alone"""

    port: int = 0
    """of the page; 0 takes one that is free"""

    def __post_init__(self) -> None:
        check_port(self.port)
        if self.episode < 0:
            raise ValueError(f"episode is {self.episode}; give its number, counted from 1, or 0 for the last")


def main(folder: Path, config: ReplayConfig) -> Path | None:
    """Show the session in ``folder`` (a run's, or ``session`` in it) until Ctrl-C, or write a video and return its path.

    Raises RobotError for a folder without a session, an episode or a camera that is not there, and a video that is.
    """
    if config.video is not None:
        check_video(config.video)
    recording = read_recording(folder)
    for note in recording.notes:
        print(f"note: {note}", flush=True)
    episode = recording.episode(config.episode)
    painter = Painter(recording.task, recording.images, recording.camera(config.camera))
    if config.video is not None:
        write_video(painter, episode, config.video)
        return config.video

    def page() -> object:
        from robots.replay.page import ReplayPage

        return ReplayPage(recording, episode)

    def prepare(outer: Any) -> None:
        _serve_frames(outer, recording, painter)

    serve(config.port, "Robot replay", page, prepare, f"replaying {folder}", "write a video with --video")
    return None


def _serve_frames(outer: Any, recording: Recording, painter: Painter) -> None:
    from fastapi import Response

    def frame(episode: int, step: int) -> Response:
        try:
            steps = recording.episode(episode).steps
        except RobotError as error:
            return Response(str(error), 404, media_type="text/plain")
        if not 0 <= step < len(steps):
            return Response(f"episode {episode} has {len(steps)} steps", 404, media_type="text/plain")
        content = io.BytesIO()
        painter.draw(steps, step).save(content, "JPEG", quality=88)
        return Response(content.getvalue(), media_type="image/jpeg", headers={"Cache-Control": "max-age=600"})

    outer.add_api_route("/frame/{episode}/{step}.jpg", frame, response_model=None)
