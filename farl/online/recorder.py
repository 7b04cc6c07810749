"""The run directory: metrics, episodes and evaluations as JSON lines first, TensorBoard beside them, clips to look at."""

from __future__ import annotations

import io
import json
import os
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from farl.errors import UserError
from farl.files import write_bytes
from farl.online.accounting import EpisodeRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

STREAMS = ("metrics", "episodes", "evaluations")
FIRST_CLIP = 1000
"""agent steps after which the first clip of a kind is kept; the next one when the step count has doubled, and so on"""


class Recorder:
    """Appends to the run's files; can be wound back to the moment of a checkpoint."""

    def __init__(self, folder: Path, threshold: float) -> None:
        self.folder, self.threshold = folder, threshold
        self.lines = dict.fromkeys(STREAMS, 0)
        """lines written to each stream so far"""
        self.next_clip = {"failure": FIRST_CLIP, "recovery": FIRST_CLIP}
        """agent steps from which the next clip of a kind is kept"""
        self._files: dict[str, IO[bytes]] = {}

    @cached_property
    def _board(self) -> SummaryWriter:
        """Made when first written to: looking at a finished run leaves no file behind."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder / "tensorboard"))

    def rewind(self) -> None:
        """Drop what was written after the checkpoint that is being continued (all of it where there is none)."""
        for stream in STREAMS:
            path = self.folder / f"{stream}.jsonl"
            if path.exists():
                kept = path.read_bytes().splitlines(keepends=True)[: self.lines[stream]]
                write_bytes(path, b"".join(kept))

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
        recovered = not line["failed"] and line["gated_steps"] >= 3 and line["outcome"] == "success"
        kind = "failure" if line["failed"] else "recovery" if recovered else None
        if kind and line["end_step"] >= self.next_clip[kind]:
            self.next_clip[kind] = 2 * line["end_step"]
            self._clip(record, line, kind)

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
        self._board.flush()  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        return {"lines": dict(self.lines), "next_clip": dict(self.next_clip)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lines, self.next_clip = dict(state["lines"]), dict(state["next_clip"])

    def close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def close(self) -> None:
        self.close_files()
        self._board.close()  # type: ignore[no-untyped-call]
