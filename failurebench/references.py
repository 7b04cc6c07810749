"""The constants scores are normalised by: what a random policy and the scripted expert achieve, measured and committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("references.json")
"""made by ``python -m failurebench.evaluate --make-references``"""

POLICIES = {"random": "random", "expert": "task"}
"""reference by the policy that is measured"""


def load_references(path: Path = PATH) -> dict[str, Any]:
    """Reference constants by task id; empty if there are none yet."""
    if not path.exists():
        return {}
    references: dict[str, Any] = json.loads(path.read_text())
    return references


def constants(result: dict[str, Any]) -> dict[str, float]:
    """What is kept of the evaluation of a reference policy."""
    until, full = result["until_success"], result["full_length"]
    return {
        "return_until_success": until["episode_return"]["mean"],
        "full_length_return": full["episode_return"]["mean"],
        "success": until["success"]["rate"],
        "safe_success": until["safe_success"]["rate"],
        "failure": until["failure"]["rate"],
    }
