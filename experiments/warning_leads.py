"""How early each look-ahead warns: shares of held-out failures, and what scoring them takes.

    python -m experiments.warning_leads BUNDLE DEMONSTRATIONS

On the calibration episodes, with the tenth of the safe steps (no failure within 30 steps) that has the highest risk gated.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from experiments.tables import markdown
from farl.algorithms.calibration import missed, safe_risks, score, warnings
from farl.data.episode_store import read_episodes
from farl.offline.bundle import OfflineBundle
from farl.offline.critics import model_critic, q_risk_critic
from farl.types import FailureCritic

LEADS = ((4, 10), (10, 20), (15, 25))
GATED = 0.1
SAFE_FOR = 30
"""agent steps without a failure after a step that counts as safe"""


def critics(bundle: OfflineBundle) -> dict[str, FailureCritic]:
    """Look-aheads of several lengths, alone and with Q-risk for what comes after."""
    found: dict[str, FailureCritic] = {"Q-risk alone": q_risk_critic(bundle)}
    for horizon, tail in ((10, False), (25, False), (2, True), (5, True), (10, True)):
        changed = replace(bundle, risk=replace(bundle.risk, horizon=horizon, tail=tail))
        found[f"H = {horizon}{', then Q-risk' if tail else ''}"] = model_critic(changed, bundle.policy)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("demonstrations", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    episodes = read_episodes(given.demonstrations / "calibration.hdf5")
    rows = []
    for name, critic in critics(OfflineBundle.load(given.bundle)).items():
        start = time.process_time()
        scored = score(critic, episodes)
        seconds = time.process_time() - start
        threshold = float(np.quantile(safe_risks(scored, SAFE_FOR), 1 - GATED))
        warned = [1 - missed(warnings(scored, *leads), threshold) for leads in LEADS]
        rows.append([name, *(f"{share:.2f}" for share in warned), f"{seconds:.1f}"])
    print(markdown(("critic", *(f"lead {near}-{far}" for near, far in LEADS), "processor s"), rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
