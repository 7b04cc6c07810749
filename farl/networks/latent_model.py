"""Latent world model with the paper's seven parts, in the style of TD-MPC2 (Hansen et al. 2024)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farl.networks.mlp import EnsembleMLP
from farl.networks.normalizer import Normalizer


class SimNorm(nn.Module):
    """Softmax over groups of eight: a bounded, sparse latent state."""

    def __init__(self, group: int = 8) -> None:
        super().__init__()
        self.group = group

    def forward(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b z"]:
        groups = z.view(*z.shape[:-1], -1, self.group)
        return groups.softmax(-1).view_as(z)


class TwoHot(nn.Module):
    """A scalar as a distribution over symlog-spaced bins: regression by cross-entropy, whatever the scale."""

    def __init__(self, bins: int = 101, low: float = -10.0, high: float = 10.0) -> None:
        super().__init__()
        self.centres: Tensor
        self.register_buffer("centres", torch.linspace(low, high, bins), persistent=False)

    def encode(self, value: Float[Tensor, " b"]) -> Float[Tensor, "b bins"]:
        """Target distribution of a scalar."""
        symlog = value.sign() * value.abs().log1p()
        position = (symlog - self.centres[0]) / (self.centres[1] - self.centres[0])
        position = position.clamp(0, len(self.centres) - 1)
        below = position.floor().long().clamp(max=len(self.centres) - 2)
        weight = (position - below).unsqueeze(-1)
        target = torch.zeros(*value.shape, len(self.centres), device=value.device)
        target.scatter_(-1, below.unsqueeze(-1), 1 - weight)
        return target.scatter_(-1, below.unsqueeze(-1) + 1, weight)

    def decode(self, logits: Float[Tensor, "*b bins"]) -> Float[Tensor, "*b"]:
        """Expected scalar of predicted logits."""
        symlog = (logits.softmax(-1) * self.centres).sum(-1)
        return symlog.sign() * symlog.abs().expm1()

    def loss(self, logits: Float[Tensor, "b bins"], value: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Cross-entropy to the two-hot target."""
        return -(self.encode(value) * logits.log_softmax(-1)).sum(-1)


def normed(fan_in: int, fan_out: int, activation: nn.Module | None = None) -> nn.Sequential:
    """Linear, layer norm, activation: SiLU unless told otherwise (TD-MPC2 has Mish, several times slower on a CPU)."""
    linear = nn.Linear(fan_in, fan_out)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(linear, nn.LayerNorm(fan_out), activation or nn.SiLU())


def head(fan_in: int, width: int, fan_out: int) -> nn.Sequential:
    """Two normed layers and a linear output that starts at zero."""
    last = nn.Linear(width, fan_out)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(normed(fan_in, width), normed(width, width), last)


class LatentModel(nn.Module):
    """Encoder, decoder, dynamics, reward, value, policy prior and failure heads.

    The decoder is needed because the task policy reads observations: rolling it out in imagination takes
    ``decode(z)`` at every step. Value and prior make the model's own training targets.
    """

    def __init__(
        self,
        normalizer: Normalizer,
        act_dim: int,
        latent: int = 128,
        width: int = 384,
        heads: int = 3,
        q_members: int = 2,
    ) -> None:
        super().__init__()
        self._normalizer = (normalizer,)
        joint = latent + act_dim
        self.two_hot = TwoHot()
        bins = len(self.two_hot.centres)
        self.encoder = nn.Sequential(normed(normalizer.feature_dim, 256), normed(256, latent, SimNorm()))
        self.decoder = nn.Sequential(normed(latent, 256), nn.Linear(256, normalizer.obs_dim))
        self.dynamics = nn.Sequential(normed(joint, width), normed(width, width), normed(width, latent, SimNorm()))
        self.reward_head = head(joint, width, bins)
        self.value_heads = nn.ModuleList([head(joint, width, bins) for _ in range(q_members)])
        self.prior = head(latent, width, act_dim)
        self.failure = EnsembleMLP([joint, width, width, 1], heads, output_gain=0.01)

    def encode(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b z"]:
        z: Tensor = self.encoder(self._normalizer[0].features(x))
        return z

    def decode(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b obs"]:
        x: Tensor = self.decoder(z)
        return x

    def step(
        self, z: Float[Tensor, "b z"], action: Float[Tensor, "b act"]
    ) -> tuple[Float[Tensor, "b z"], Float[Tensor, "k b"]]:
        joint = torch.cat([z, action], dim=-1)
        logits: Tensor = self.failure(joint)
        return self.dynamics(joint), logits.squeeze(-1)

    def reward(self, z: Float[Tensor, "b z"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        return self.two_hot.decode(self.reward_head(torch.cat([z, action], dim=-1)))

    def value(self, z: Float[Tensor, "b z"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        """The smaller of the action values."""
        joint = torch.cat([z, action], dim=-1)
        return torch.stack([self.two_hot.decode(q(joint)) for q in self.value_heads]).amin(0)

    def propose(self, z: Float[Tensor, "b z"]) -> Float[Tensor, "b act"]:
        """The prior's mean action."""
        return torch.tanh(self.prior(z))
