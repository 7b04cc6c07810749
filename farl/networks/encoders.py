"""What networks read of a dictionary observation: its plain numbers, and a code for each cloud (PointNet, Qi et al. 2017)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farl.errors import UserError
from farl.networks.mlp import mlp
from farl.networks.normalizer import Normalizer
from farl.observations import Layout

CHUNK = 512
"""clouds encoded at a time; of 128 points each, what the layers give is then 32 MB at most"""


class PointEncoder(nn.Module):
    """A code of a set of points: the same small network for each, the largest answers over all, and a network on those.

    Neither the order of points nor how often one comes matters. All three coordinates have one scale, so that what is upright stays
    upright and distances keep their meaning.
    """

    def __init__(self, code: int, local: tuple[int, ...] = (64, 128), hidden: int = 128) -> None:
        super().__init__()
        self.centre: Tensor
        self.scale: Tensor
        self.register_buffer("centre", torch.zeros(3))
        self.register_buffer("scale", torch.ones(()))
        self.local = mlp([3, *local])
        self.code = mlp([local[-1], hidden, code])

    def fit(self, points: Float[Tensor, "b n 3"]) -> None:
        """Take the middle of all points, and how far they are from it in the mean, as origin and unit."""
        self.centre.copy_(points.mean((0, 1)))
        self.scale.copy_((points - self.centre).square().sum(-1).mean().sqrt().clamp_min(1e-3))

    def scaled(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b n 3"]:
        """Points in those units."""
        return (points - self.centre) / self.scale

    def forward(self, points: Float[Tensor, "b n 3"]) -> Float[Tensor, "b code"]:
        each: Tensor = self.local(self.scaled(points).flatten(0, 1))
        code: Tensor = self.code(each.view(*points.shape[:2], -1).amax(1))
        return code


class CloudNormalizer(Normalizer):
    """A normaliser that shows clouds as codes: to every network an observation is its plain numbers and these.

    The encoders are trained once, before everything else (``algorithms/encoder_training.py``), and frozen with the rest of the
    normaliser. So world model and policies agree on what they see: what the model imagines is what the policy reads, and nobody
    has to imagine points.
    """

    def __init__(self, layout: Layout, code: int) -> None:
        super().__init__(layout.plain + code * len(layout.clouds))
        self.layout = layout
        self.encoders = nn.ModuleDict({name: PointEncoder(code) for name, _ in layout.clouds}).requires_grad_(False)

    @torch.no_grad()
    def encode(self, obs: Float[Tensor, "b raw"]) -> Float[Tensor, "b obs"]:
        return torch.cat([self._encode(rows) for rows in torch.split(obs, CHUNK)])

    def inverse(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b obs"]:
        """There is none.

        Raises:
            UserError: always; only a policy from elsewhere asks.
        """
        raise UserError(
            "what the world model imagines has codes in place of points, and a policy of your own cannot read those: let the "
            "bundle's policy act, or use observations without points"
        )

    def _encode(self, obs: Tensor) -> Tensor:
        clouds = self.layout.points(obs)
        codes = [encoder(clouds[name]) for name, encoder in self.encoders.items()]
        return torch.cat([obs[:, : self.layout.plain], *codes], dim=-1)


def normalizer_for(obs_dim: int, layout: Layout | None, code: int) -> Normalizer:
    """Of flat observations with ``obs_dim`` numbers: a plain one unless there are clouds among them."""
    return Normalizer(obs_dim) if layout is None or not layout.clouds else CloudNormalizer(layout, code)
