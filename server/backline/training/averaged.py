"""A network whose weights' average is what packs are made of: what the diffusion models' trainers share.

learner = Averaged(network, config)                       # on its device already
losses = learner.step(loss(learner.network), rate, moment)
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from backline.nn.learning_rate import set_rate
from backline.training.loop import Losses, Moment

Network = TypeVar("Network", bound=nn.Module)


class Descent(Protocol):
    """How hard a network is trained."""

    @property
    def rate(self) -> float: ...

    @property
    def betas(self) -> tuple[float, float]: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def average(self) -> float:
        """Share of the weights' average that each step leaves."""
        ...

    @property
    def clip(self) -> float:
        """The gradient's largest norm."""
        ...


class Averaged(Generic[Network]):
    """The network, the average of its weights, and its optimiser."""

    def __init__(self, network: Network, config: Descent) -> None:
        self.network, self.config = network, config
        self.average = deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), config.rate, betas=config.betas, weight_decay=config.weight_decay
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; packs are made of the average."""
        return {"model": self.average, "network": self.network, "optimizer": self.optimizer}

    def step(self, loss: Tensor, rate: float, moment: Moment) -> Losses:
        """One optimiser step."""
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
        self.optimizer.step()
        kept = min(self.config.average, (1 + moment.step) / (10 + moment.step))  # the first weights mean nothing
        with torch.no_grad():  # or every step would hang another node on a graph that nobody ever asks
            torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - kept)
        return {"loss": float(loss.detach()), "norm": float(norm), "rate": rate}
