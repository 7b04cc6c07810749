"""State-space world model: a linear prediction in observation space plus what a small network adds to it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from farl.networks.mlp import EnsembleMLP, mlp
from farl.networks.normalizer import Normalizer


class StateModel(nn.Module):
    """x' = A [x, a, 1] + scale * f(features(x), a), with failure heads on x' and a reward head on (x, a, x').

    The linear part is fitted in closed form. It carries everything that is exactly linear, such as the previous frame in a
    stacked observation or constant dimensions; there ``scale`` is zero and rollouts stay exact. The network explains
    what is left, each dimension in units of its own residual, so millimetres of an object weigh as much as
    centimetres of the hand.

    The failure heads see nothing but the observation a step leads to, because that is what a failure is judged on. Shown
    the features and the action as well, they fitted the accidents of the data and missed those of the cloned policy
    (docs/method.md has the figures).
    """

    def __init__(
        self, normalizer: Normalizer, act_dim: int, hidden: tuple[int, ...] = (256, 256), heads: int = 3
    ) -> None:
        super().__init__()
        obs, features = normalizer.obs_dim, normalizer.feature_dim
        self._normalizer = (normalizer,)
        self.linear: Tensor
        self.scale: Tensor
        self.register_buffer("linear", torch.zeros(obs + act_dim + 1, obs))
        self.register_buffer("scale", torch.ones(obs))
        self.residual = mlp([features + act_dim, *hidden, obs], nn.SiLU, output_gain=0.01)
        self.failure = EnsembleMLP([obs, 128, 128, 1], heads, output_gain=0.01)
        self.reward_head = mlp([2 * features + act_dim, 128, 128, 1], nn.SiLU)

    @torch.no_grad()
    def fit_linear(
        self,
        x: Float[Tensor, "n obs"],
        action: Float[Tensor, "n act"],
        target: Float[Tensor, "n obs"],
        ridge: float = 1e-4,
    ) -> None:
        """Least squares for the linear part; its residual's spread becomes the network's output scale."""
        inputs = self._inputs(x, action).double()
        gram = inputs.T @ inputs / len(inputs) + ridge * torch.eye(
            inputs.shape[1], dtype=torch.float64, device=x.device
        )
        solution = torch.linalg.solve(gram, inputs.T @ target.double() / len(inputs))
        self.linear.copy_(solution.float())
        spread = (target - self._inputs(x, action) @ self.linear).square().mean(0).sqrt()
        self.scale.copy_(torch.where(spread > 1e-3, spread, torch.zeros_like(spread)))

    @staticmethod
    def _inputs(x: Tensor, action: Tensor) -> Tensor:
        return torch.cat([x, action, torch.ones_like(action[:, :1])], dim=-1)

    def encode(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "b features"]:
        """The model's state is the observation with its features, so that each is computed once a step."""
        return self._normalizer[0].features(x)

    def decode(self, z: Float[Tensor, "b features"]) -> Float[Tensor, "b obs"]:
        return z[..., : len(self.scale)]

    def predict(self, z: Float[Tensor, "b features"], action: Float[Tensor, "b act"]) -> Float[Tensor, "b obs"]:
        """The next standardised observation."""
        change: Tensor = self.residual(torch.cat([z, action], dim=-1))
        clip = self._normalizer[0].clip
        linear = torch.addmm(self.linear[-1], torch.cat([self.decode(z), action], dim=-1), self.linear[:-1])
        return torch.addcmul(linear, self.scale, change).clamp(-clip, clip)

    def follow(self, z: Float[Tensor, "b features"], action: Float[Tensor, "b act"]) -> Float[Tensor, "b features"]:
        """The next state."""
        return self.encode(self.predict(z, action))

    def advance(
        self, z: Float[Tensor, "b features"], action: Float[Tensor, "b act"]
    ) -> tuple[Float[Tensor, "b features"], Float[Tensor, "b transition"]]:
        """The next state, and the transition the reward head reads."""
        following = self.follow(z, action)
        return following, torch.cat([z, action, following], dim=-1)

    def step(
        self, z: Float[Tensor, "b features"], action: Float[Tensor, "b act"]
    ) -> tuple[Float[Tensor, "b features"], Float[Tensor, "k b"]]:
        following = self.follow(z, action)
        return following, self.failure_logits(self.decode(following))

    def failure_logits(self, x: Float[Tensor, "b obs"]) -> Float[Tensor, "k b"]:
        """Every head's logit that a step which led to ``x`` violated."""
        logits: Tensor = self.failure(x)
        return logits.squeeze(-1)

    def reward(self, z: Float[Tensor, "b features"], action: Float[Tensor, "b act"]) -> Float[Tensor, " b"]:
        value: Tensor = self.reward_head(self.advance(z, action)[1])
        return value.squeeze(-1)
