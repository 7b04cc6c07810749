"""The run directory: metrics, episodes and evaluations as JSON lines first, TensorBoard beside them, clips to look at."""

from __future__ import annotations

import base64
import io
import json
import os
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farl.errors import UserError
from farl.files import write_bytes
from farl.online.accounting import EpisodeRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STREAMS = ("metrics", "episodes", "evaluations", "failures", "lost")
FIRST_CLIP = 1000
"""agent steps after which the first clip of a kind is kept; the next one when the step count has doubled, and so on"""
KEPT_FAILURES = 512
"""failing episodes kept in full; after that every second one, and after every doubling half as many"""


class Recorder:
    """Appends to the run's files; can be wound back to the moment of a checkpoint."""

    def __init__(self, folder: Path, threshold: float) -> None:
        self.folder, self.threshold = folder, threshold
        self.lines = dict.fromkeys(STREAMS, 0)
        """lines written to each stream so far"""
        self.next_clip = {"failure": FIRST_CLIP, "recovery": FIRST_CLIP}
        """agent steps from which the next clip of a kind is kept"""
        self.failures = 0
        """failing episodes seen so far"""
        self._files: dict[str, IO[bytes]] = {}
        self._from_step = 0

    @cached_property
    def _board(self) -> SummaryWriter:
        """Made when first written to. Curves drop the points of earlier starts from the step on that is played again."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._from_step)

    def rewind(self, step: int) -> None:
        """Drop what was written after the checkpoint of ``step`` that is being continued (all of it where there is none).

        Raises UserError, and changes nothing, where a file holds less than the checkpoint counted.
        """
        files = {self.folder / f"{stream}.jsonl": lines for stream, lines in self.lines.items()}
        written = {path: path.read_bytes().splitlines(keepends=True) if path.exists() else [] for path in files}
        for path, lines in files.items():
            if (found := sum(line.endswith(b"\n") for line in written[path])) < lines:
                raise UserError(
                    f"{path} holds {found} lines and the checkpoint of step {step} counts {lines}: it was changed, or lost lines "
                    "with its disk. Put it back, or delete the run directory to start over"
                )
        for path, lines in files.items():
            if len(written[path]) > lines:
                write_bytes(path, b"".join(written[path][:lines]))
        for clip in (self.folder / "clips").glob("*.npz"):
            if int(clip.stem) >= self.lines["episodes"]:
                clip.unlink()
        self._from_step = step + 1 if step else 0   # at step 0 there is a first evaluation to be made again

    def write(self, stream: str, record: dict[str, Any]) -> None:
        """Append one line; it reaches the operating system before this returns."""
        if stream not in self._files:
            self._files[stream] = (self.folder / f"{stream}.jsonl").open("ab", buffering=0)
        try:
            self._files[stream].write(json.dumps(record).encode() + b"\n")
        except OSError as error:
            raise UserError(
                f"cannot append to {self.folder / stream}.jsonl: {os.strerror(error.errno or 0)}. The run is kept up to its last "
                "checkpoint; free space and run the same command again to continue."
            ) from error
        self.lines[stream] += 1

    def metrics(self, record: dict[str, Any]) -> None:
        """One iteration: a line of JSON, and a point on every TensorBoard curve."""
        self.write("metrics", record)
        for name, value in record.items():
            if isinstance(value, int | float) and name != "step":
                self._board.add_scalar(f"train/{name}", value, record["step"])  # type: ignore[no-untyped-call]

    def evaluation(self, step: int, gate: str, rows: list[dict[str, Any]]) -> None:
        """Evaluation episodes, one line each, and their means."""
        for row in rows:
            self.write("evaluations", {"step": step, "gate": gate, **row})
        for name in ("return", "length", "failed", "success"):
            values = [row["outcome"] == "success" if name == "success" else row[name] for row in rows]
            self._board.add_scalar(f"evaluation_gate_{gate}/{name}", float(np.mean(values)), step)  # type: ignore[no-untyped-call]

    def episode(self, record: EpisodeRecord, line: dict[str, Any]) -> None:
        """A finished training episode; failures and recoveries are kept as clips, early ones densely and late ones too."""
        self.write("episodes", line)
        if line["failed"]:
            self._failure(record, line)
        recovered = not line["failed"] and line["gated_steps"] >= 3 and line["outcome"] == "success"
        kind = "failure" if line["failed"] else "recovery" if recovered else None
        if kind and line["end_step"] >= self.next_clip[kind]:
            self.next_clip[kind] = 2 * line["end_step"]
            self._clip(record, line, kind)

    def _failure(self, record: EpisodeRecord, line: dict[str, Any]) -> None:
        """What is needed to play a failing episode again up to its first failure."""
        if is_kept(self.failures):
            stop = line["first_failure"] + 1
            self.write(
                "failures",
                {
                    "episode": line["episode"],
                    "seed": record.seed,
                    "first_failure": line["first_failure"],
                    "gated": "".join("01"[gated] for gated in record.gated[:stop]),
                    "shape": [stop, *record.actions[0].shape],
                    "actions": encode_floats(np.stack(record.actions[:stop])),
                    "risk": encode_floats(np.array(record.risks[:stop])),
                },
            )
        self.failures += 1

    def _clip(self, record: EpisodeRecord, line: dict[str, Any], kind: str) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            seed=record.seed,
            actions=np.stack(record.actions),
            risk=np.array(record.risks, dtype=np.float32),
            gated=np.array(record.gated),
            failure=np.array(record.failures),
            threshold=self.threshold,
            kind=kind,
            end_step=line["end_step"],
        )
        write_bytes(self.folder / "clips" / f"{line['episode']}.npz", buffer.getvalue())

    def flush(self) -> None:
        """Wait until all that was written is on disk: what a checkpoint counts must outlast a power failure as it does."""
        if "_board" in vars(self):
            self._board.flush()  # type: ignore[no-untyped-call]
        for file in self._files.values():
            os.fsync(file.fileno())

    def state_dict(self) -> dict[str, Any]:
        return {"lines": dict(self.lines), "next_clip": dict(self.next_clip), "failures": self.failures}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lines = {stream: state["lines"][stream] for stream in STREAMS}
        self.next_clip, self.failures = dict(state["next_clip"]), state["failures"]

    def close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def close(self) -> None:
        self.close_files()
        if "_board" in vars(self):
            self._board.close()  # type: ignore[no-untyped-call]


def is_kept(failure: int) -> bool:
    """Whether the failing episode of this number, from 0, is kept for replay: all at first, then ever fewer."""
    return failure % (1 << (failure // KEPT_FAILURES).bit_length()) == 0


def encode_floats(values: NDArray[Any]) -> str:
    """Little-endian float32 as base64 text; ``decode_floats`` reads it."""
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def decode_floats(text: str, *shape: int) -> NDArray[np.float32]:
    """The array of ``shape`` that ``encode_floats`` was given, as float32."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(shape).astype(np.float32)
