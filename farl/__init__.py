"""FARL: failure-aware offline-to-online reinforcement learning that makes post-training on a manipulator reliable."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from farl.online.failure_gate import FailureGate, VectorFailureGate

__version__ = "0.1.0"
__all__ = ["FailureGate", "VectorFailureGate", "__version__"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for: ``farl --help`` answers at once."""
    if name in ("FailureGate", "VectorFailureGate"):
        return getattr(importlib.import_module("farl.online.failure_gate"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
