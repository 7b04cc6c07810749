"""What keys say: one table for the keyboard and for the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field

from robots.operator.hand import HandConfig
from robots.operator.interface import Word


@dataclass(frozen=True)
class KeysConfig:
    """Which key says what. Shift held takes the arm over; the arrows then move the finger."""

    success: str = "s"
    retract: str = "r"
    reset_done: str = "d"
    pause: str = "p"
    resume: str = "g"
    abort: str = "a"
    quit: str = "q"
    failures: tuple[tuple[str, str], ...] = (("f", ""), ("1", "dropped"), ("2", "damaged"), ("3", "stuck"))
    """key and kind of failure"""
    hand: HandConfig = field(default_factory=HandConfig)

    def __post_init__(self) -> None:
        single = [self.success, self.retract, self.reset_done, self.pause, self.resume, self.abort, self.quit]
        used = [*single, *(key for key, _ in self.failures)]
        if any(len(key) != 1 for key in used) or len(set(used)) < len(used):
            raise ValueError(f"the keys are {', '.join(used)}; give one character each, and none twice")

    def words(self) -> dict[str, tuple[Word, str]]:
        """What each key says."""
        single = {self.success: Word.SUCCESS, self.retract: Word.RETRACT, self.reset_done: Word.RESET_DONE, self.pause: Word.PAUSE}
        single |= {self.resume: Word.RESUME, self.abort: Word.ABORT, self.quit: Word.QUIT}
        return {**{key: (word, "") for key, word in single.items()}, **{key: (Word.FAILURE, kind) for key, kind in self.failures}}
