"""The network of MGE-LDM: the paper's sizes, and what its tables and tensors may be."""

from dataclasses import replace

import pytest
import torch

from backline.models.mge.config import PAPER, SMALL, TINY, MgeConfig
from backline.models.mge.network import MgeNetwork, read_network
from backline.models.mge.tasks import TASKS, TRACKS


def parameters(config: MgeConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in MgeNetwork(config).parameters())


def test_the_papers_network_has_its_parameters() -> None:
    assert parameters(PAPER) == pytest.approx(1_023.0e6, rel=1e-4)


def test_the_papers_shapes_are_those_of_the_released_code() -> None:
    """MODELS.md G."""
    with torch.device("meta"):
        state = MgeNetwork(PAPER).dit.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes["embed.weight"] == (1536, 192)
    assert shapes["blocks.0.qkv.weight"] == (4608, 1536)
    assert shapes["blocks.23.up_gate.weight"] == (12_288, 1536)
    assert shapes["blocks.0.modulation.weight"] == (9216, 512, 1)
    assert shapes["time_in.weight"] == (1536, 256, 1)
    assert shapes["condition_in.weight"] == (1536, 512, 1)


def test_the_small_network_has_nine_million() -> None:
    assert parameters(SMALL) == pytest.approx(9e6, rel=0.05)


def test_a_task_gives_one_track_and_asks_about_another() -> None:
    given = {name: [TRACKS[at] for at in task.known(1)[0, :, 0].nonzero()[:, 0]] for name, task in TASKS.items()}
    assert given == {"extract": ["mixture"], "impute": ["submixture"], "accompany": ["source"], "generate": []}
    assert {name: TRACKS[task.asked] for name, task in TASKS.items()} == {
        "extract": "source", "impute": "source", "accompany": "submixture", "generate": "mixture"
    }  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_a_prompt_is_heard_where_the_task_asks(task: str) -> None:
    condition = MgeNetwork(TINY).asked(torch.ones(2, 8), TASKS[task])
    assert [TRACKS[at] for at in condition[0].any(dim=1).nonzero()[:, 0]] == [TRACKS[TASKS[task].asked]]


def test_latents_come_back_from_what_the_network_knows() -> None:
    network, latents = MgeNetwork(TINY), 3 + 2 * torch.randn(2, 3, 4, 8)
    network.mean.copy_(latents.mean(dim=(0, 1, 3)))
    network.deviation.copy_(latents.std())
    assert torch.allclose(network.unnormed(network.normed(latents)), latents, atol=1e-5)
    assert network.normed(latents).std().item() == pytest.approx(1, abs=0.05)


def test_tensors_are_read_back_and_misfits_named() -> None:
    network = MgeNetwork(TINY)
    tensors = {f"mge.{name}": tensor.half() for name, tensor in network.state_dict().items()}
    assert torch.allclose(read_network(TINY, tensors).dit.embed.weight, network.dit.embed.weight, atol=1e-3)
    del tensors["mge.dit.embed.weight"]
    tensors["mge.mean"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"dit\.embed\.weight.*is missing.*mge\.mean is \[5\], must be \[4\]"):
        read_network(TINY, tensors)


@pytest.mark.parametrize("changes", [{"tracks": 2}, {"context": 3}, {"condition": 0, "time": "frame"}])
def test_a_network_of_another_kind_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="network h"):
        MgeConfig(replace(TINY.network, **changes))
