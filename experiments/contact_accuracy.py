"""How well a bundle's world model foresees that a resting object is hit.

    python -m experiments.contact_accuracy BUNDLE DEMONSTRATIONS

On the held-out failure and recovery demonstrations of a Sawyer task.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.tables import markdown
from farl.data.episode_store import read_episodes
from farl.offline.bundle import OfflineBundle
from farl.types import Episode

PLACE, EARLIER = slice(4, 7), slice(22, 25)
"""the object in a Sawyer task's observation: now, and one simulator step before"""

SIMULATOR_STEP_S = 0.0125
RESTS_M_S, HIT_M_S = 0.02, 0.1
"""speed below which an object rests, and above which it was hit"""

ON_THE_TABLE_M = 0.035
"""height below which an object is not carried"""

STEPS = 6
"""agent steps of the gate's look-ahead at its default horizon"""


def velocity(obs: torch.Tensor) -> torch.Tensor:
    """The object's velocity on the table, m/s."""
    return ((obs[..., PLACE] - obs[..., EARLIER]) / SIMULATOR_STEP_S)[..., :2]


def hits(episodes: Sequence[Episode]) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows in which an object that rests is moving ``STEPS`` later: observations ``(n, STEPS + 1, obs)`` and actions."""
    windows, actions = [], []
    for episode in episodes:
        obs = torch.from_numpy(episode.obs)
        speed, height = velocity(obs).norm(dim=-1), obs[:, 6]
        for t in range(len(episode) - STEPS):
            low = max(height[t], height[t + STEPS]) < ON_THE_TABLE_M
            if low and speed[t] < RESTS_M_S and min(speed[t + STEPS - 1], speed[t + STEPS]) > HIT_M_S:
                windows.append(obs[t : t + STEPS + 1])
                actions.append(torch.from_numpy(episode.actions[t : t + STEPS]).clamp(-1, 1))
    return torch.stack(windows), torch.stack(actions)


@torch.no_grad()
def table(bundle: OfflineBundle, episodes: Sequence[Episode]) -> list[list[str]]:
    """A row per step ahead: speeds imagined and true, and the root mean square error of the velocity."""
    obs, action = hits(episodes)
    z = bundle.model.encode(bundle.normalizer(obs[:, 0]))
    rows = []
    for step in range(STEPS):
        z, _ = bundle.model.step(z, action[:, step])
        imagined = velocity(bundle.normalizer.inverse(bundle.model.decode(z)))
        true = velocity(obs[:, step + 1])
        error = float((imagined - true).square().sum(-1).mean().sqrt())
        speeds = [float(v.norm(dim=-1).mean()) for v in (imagined, true)]
        rows.append([str(step + 1), *(f"{value:.3f}" for value in (*speeds, error))])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("demonstrations", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = [given.demonstrations / f"{name}.hdf5" for name in ("failure", "recovery")]
    rows = table(OfflineBundle.load(given.bundle), [e for path in sets for e in read_episodes(path, "valid")])
    print(markdown(("step", "speed imagined, m/s", "true", "error of the velocity, rms"), rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
