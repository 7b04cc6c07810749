"""What code a machine would run: results of different code must not end up in one study."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib import metadata, util
from pathlib import Path

PACKAGES = ("failure-aware-rl", "torch", "mujoco", "gymnasium", "metaworld", "numpy")
"""what numbers depend on beside the sources themselves"""


def code_versions(modules: Iterable[str]) -> dict[str, str]:
    """Installed versions by package, and a digest of the sources of each module (its whole package, where it is one)."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found | {f"sources of {module}": source_digest(module) for module in modules}


def source_digest(module: str) -> str:
    """Twelve digits that change with any line of the module's sources, `not found` where it cannot be imported."""
    try:
        spec = util.find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return "not found"
    root = Path(spec.origin)
    files = sorted(root.parent.rglob("*.py")) if root.name == "__init__.py" else [root]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(root.parent).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def difference(here: Mapping[str, str], there: Mapping[str, str], node: str) -> str:
    """What differs, naming both sides; empty where nothing does."""
    differing = [name for name in here if here[name] != there.get(name)]
    if not differing:
        return ""
    listed = "; ".join(f"{name}: {here[name]} here, {there.get(name, 'not known')} there" for name in differing)
    return (
        f"node {node} would run other code than this machine ({listed}). "
        "Install the same on both, then run the same command again."
    )
