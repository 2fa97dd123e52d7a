"""Trains a toy stage in the processes that torchrun starts; the first one also says what they must arrive at."""

import sys
from pathlib import Path

import torch

from backline.models.hafm.interleaved.network import StageNetwork
from backline.nn.learning_rate import set_rate
from backline.training.interleaved import StageTrainer
from backline.training.loop import LoopConfig, train
from backline.training.team import Team, joined
from tests.training.test_interleaved import CPU, TOY, TRAINING, songs

STEPS = 3


def expected(first: int) -> dict[str, torch.Tensor]:
    """One process that takes the gradients of both, one after the other, and steps by their mean.

    `first`: seed of the first one's weights.
    """
    stage = TOY.coarse
    torch.manual_seed(first)
    network = StageNetwork(stage)
    optimizer = torch.optim.AdamW(network.parameters(), TRAINING.peak, TRAINING.betas, weight_decay=0.01)
    parts = [StageTrainer("coarse", stage, TRAINING, songs(6), 4, CPU, "float32", Alone(rank, 2)) for rank in range(2)]
    for step in range(STEPS):
        set_rate(optimizer, TRAINING.rate(step))
        optimizer.zero_grad()
        for part in parts:
            part.network.load_state_dict(network.state_dict())
            part.network.zero_grad()
            part._pass(step, 0, last=True)
            for own, shared in zip(part.network.parameters(), network.parameters(), strict=True):
                assert own.grad is not None
                shared.grad = own.grad / 2 if shared.grad is None else shared.grad + own.grad / 2
        torch.nn.utils.clip_grad_norm_(network.parameters(), TRAINING.clip_norm)
        optimizer.step()
    return network.state_dict()


class Alone(Team):
    """A process' part of the batch, without the others."""

    def parallel(self, network: torch.nn.Module) -> torch.nn.Module:
        return network


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with joined(CPU) as (team, device):
        assert team.size == 2
        assert team.any(team.leads) is True
        assert team.any(False) is False
        loop = LoopConfig(out / "run", steps=STEPS, seed=4)
        torch.manual_seed(team.rank)  # the first one's weights count
        trainer = StageTrainer("coarse", TOY.coarse, TRAINING, songs(6), 4, device, "float32", team)
        train(loop, trainer.step, trainer.state(), lambda: {"loss": 0.0}, "loss", team=team)
        torch.save(trainer.network.state_dict(), out / f"rank-{team.rank}.pt")
        if team.leads:
            torch.save(expected(0), out / "expected.pt")
