"""The process that draws one clip: ``python -m farl.watch.render RUN EPISODE START VIDEO``. Nothing is written into the run."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from farl.compare import clips
from farl.compare.records import read_json, without_books
from farl.errors import UserError
from farl.following.lines import read_line
from farl.following.recordings import from_line


def render(folder: Path, episode: int, start: int, video: Path) -> None:
    """Draw an episode from ``clips/``, or else from its line in ``failures.jsonl``, which begins at byte ``start``.

    Raises UserError where there is neither, or where the task cannot be drawn on this machine.
    """
    run, recording = without_books(folder), folder / "clips" / f"{episode}.npz"
    if recording.exists():
        clips.render(run, recording, video)
        return
    line = read_line(folder / "failures.jsonl", start)
    if line is None or line.get("episode") != episode:
        raise UserError(f"episode {episode} is no longer in {folder / 'failures.jsonl'}; the run was wound back")
    recorded = from_line(line, read_json(folder / "meta.json").get("threshold"))
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / f"{episode}.npz"
        np.savez(file, kind="failure", end_step=-1, **asdict(recorded))   # the layout of clips/
        clips.render(run, file, video)


if __name__ == "__main__":
    try:
        run, episode, start, video = sys.argv[1:]
        render(Path(run), int(episode), int(start), Path(video))
    except (UserError, KeyError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
