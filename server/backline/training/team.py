"""Processes that train one network together, each on its own part of every batch, as `torchrun` starts them.

with joined("cuda") as team:                 # alone, where torchrun has started nothing
    network = team.parallel(network)         # gradients are the mean over all
    train(loop, step, state, team=team)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(days=7)  # the others wait while the first one writes tokens


@dataclass(frozen=True)
class Team:
    """One of `size` processes, number `rank`."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"  # through which they speak

    @property
    def leads(self) -> bool:
        """Whether this is the one that validates and writes."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether it is so in any of them. All must ask."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)], device=self.device)
        distributed.all_reduce(flags, distributed.ReduceOp.MAX)
        return bool(flags.item())

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            distributed.barrier()

    def parallel(self, network: nn.Module) -> nn.Module:
        """`network` with the first one's weights, whose gradients are those of all."""
        return network if self.size == 1 else DistributedDataParallel(network)


ALONE = Team()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Team, torch.device]]:
    """The team that torchrun has started this process for, and its own device: of several GPUs its own one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(distributed.get_rank(), size, str(device)), device
    finally:
        distributed.destroy_process_group()
