"""The one version of franky-sim that the twin works with."""

from __future__ import annotations

import importlib.metadata

from robots.errors import RobotError

KNOWN_VERSION = "1.0.4"
"""the twin's controller reaches into its private parts"""


def require_known_version() -> None:
    """Refuse another franky-sim than the one whose private parts this reaches into.

    Raises:
        RobotError: it is missing, or another version.
    """
    try:
        found = importlib.metadata.version("franky-sim")
    except importlib.metadata.PackageNotFoundError as error:
        raise RobotError(
            "the wire twin needs franky-sim, which is not installed: pip install 'failure-aware-rl[robot-twin]'"
        ) from error
    if found != KNOWN_VERSION:
        raise RobotError(
            f"the wire twin works with franky-sim {KNOWN_VERSION} only and found {found}: "
            f"pip install franky-sim=={KNOWN_VERSION}"
        )
