"""The diffusion transformer: its norms, its times, its positions, and what each output may depend on."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from backline.nn.dit import Block, DiT, DiTConfig, GroupedLinear, TrackNorm
from backline.nn.rotary import rotation

PAPER_LIKE = DiTConfig(channels=4, condition=6, width=8, layers=2, heads=3, time_features=8)
STREAMED = replace(PAPER_LIKE, norm="frame", time="frame")


def alive(config: DiTConfig, seed: int = 0) -> DiT:
    """A network none of whose weights is zero, as those are that training begins with."""
    torch.manual_seed(seed)
    network = DiT(config)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    return network.eval()


def drawn(frames: int, config: DiTConfig = PAPER_LIKE, rows: int = 2) -> tuple[Tensor, Tensor]:
    """Latents and conditions."""
    torch.manual_seed(1)
    return torch.randn(rows, config.tracks, config.channels, frames), torch.randn(rows, config.tracks, config.condition)


def test_the_norm_over_a_group_is_torchs() -> None:
    norm, x = TrackNorm(PAPER_LIKE), torch.randn(2, 5, 24)
    nn.init.normal_(norm.scale)
    expected = nn.GroupNorm(3, 24, eps=PAPER_LIKE.norm_epsilon)
    expected.load_state_dict({"weight": norm.scale, "bias": torch.zeros(24)})
    assert torch.allclose(norm(x), expected(x.transpose(1, 2)).transpose(1, 2), atol=1e-6)


def test_the_norm_over_a_frame_is_that_of_a_window_of_one() -> None:
    over_frame, over_group = TrackNorm(STREAMED), TrackNorm(PAPER_LIKE)
    x = torch.randn(2, 5, 24)
    alone = torch.cat([over_group(frame) for frame in x.split(1, dim=1)], dim=1)
    assert torch.allclose(over_frame(x), alone, atol=1e-6)


def test_tracks_have_weights_of_their_own_as_in_a_grouped_convolution() -> None:
    torch.manual_seed(0)
    linear, convolution = GroupedLinear(3, 5, 7, bias=True), nn.Conv1d(15, 21, 1, groups=3)
    convolution.load_state_dict(linear.state_dict())
    x = torch.randn(2, 4, 3, 5)
    expected = convolution(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (3, 7))
    assert torch.allclose(linear(x), expected, atol=1e-6)


def test_a_block_is_the_published_one_written_out() -> None:
    """Step by step: norm, scale and shift by track, rotary attention, SwiGLU, sigmoid(1 - gate)."""
    torch.manual_seed(0)
    block = Block(PAPER_LIKE)
    for weight in block.parameters():
        nn.init.normal_(weight, std=0.3)
    x, modulating = torch.randn(1, 5, 24), torch.randn(1, 1, 3, 8)
    found = block(x, modulating, rotation(torch.arange(5), 8), None)

    by_track = [
        block.modulation.weight[48 * track : 48 * track + 48, :, 0] @ modulating[0, 0, track] for track in range(3)
    ]
    six = [torch.cat([told[8 * part : 8 * part + 8] for told in by_track]) for part in range(6)]
    scale1, shift1, gate1, scale2, shift2, gate2 = six

    def normed(y: Tensor, scale: Tensor) -> Tensor:
        return F.group_norm(y[None].transpose(1, 2), 3).transpose(1, 2)[0] * scale

    def rotated(head: Tensor) -> Tensor:
        angles = torch.arange(5)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)
        turned = torch.complex(head[:, :4], head[:, 4:]) * torch.polar(torch.ones(5, 4), angles)
        return torch.cat([turned.real, turned.imag], dim=1)

    y = x[0]
    queries, keys, values = ((normed(y, block.norm1.scale) * (1 + scale1) + shift1) @ block.qkv.weight.T).chunk(
        3, dim=1
    )
    heads = []
    for head in range(3):
        at = slice(8 * head, 8 * head + 8)
        weights = (rotated(queries[:, at]) @ rotated(keys[:, at]).T / 8**0.5).softmax(dim=1)
        heads.append(weights @ values[:, at])
    y = y + torch.cat(heads, dim=1) @ block.out.weight.T * torch.sigmoid(1 - gate1)
    inner = block.up_gate(normed(y, block.norm2.scale) * (1 + scale2) + shift2)
    y = y + block.down(inner[:, :96] * F.silu(inner[:, 96:])) * torch.sigmoid(1 - gate2)
    assert torch.allclose(found[0], y, atol=1e-5)


def test_training_begins_with_blocks_that_add_nothing() -> None:
    network = DiT(PAPER_LIKE)
    z, condition = drawn(5)
    times = torch.rand(2, 3, 1)
    x = z.flatten(1, 2).transpose(1, 2)
    assert torch.allclose(network(z, times, condition).flatten(1, 2).transpose(1, 2), network.out(network.embed(x)))


@pytest.mark.parametrize("config", [PAPER_LIKE, STREAMED], ids=["paper", "streamed"])
def test_every_track_hears_every_track_and_its_own_time_and_condition(config: DiTConfig) -> None:
    network = alive(config)
    z, condition = drawn(5, config)
    times = torch.rand(2, 3, 1)
    plain = network(z, times, condition)
    for track in range(3):
        for changed in (
            network(z.index_add(1, torch.tensor([track]), torch.ones(2, 1, 4, 5)), times, condition),
            network(z, times.index_add(1, torch.tensor([track]), torch.full((2, 1, 1), 0.1)), condition),
            network(z, times, condition.index_add(1, torch.tensor([track]), torch.ones(2, 1, 6))),
        ):
            assert (changed - plain).abs().amax(dim=(0, 2, 3)).min() > 1e-4


def test_one_time_for_all_frames_is_the_same_time_for_each() -> None:
    network = alive(STREAMED)
    z, condition = drawn(5)
    times = torch.rand(2, 3, 1)
    assert torch.allclose(network(z, times, condition), network(z, times.expand(-1, -1, 5), condition), atol=1e-5)


def test_frames_that_are_not_there_leave_the_others_as_in_a_shorter_window() -> None:
    network = alive(STREAMED)
    z, condition = drawn(9)
    times = torch.rand(2, 3, 9)
    present = torch.arange(9) < torch.tensor([6, 6])[:, None]
    long = network(z, times, condition, present=present)[..., :6]
    short = network(z[..., :6], times[..., :6], condition)
    assert torch.allclose(long, short, atol=1e-5)


def test_the_norm_over_a_group_depends_on_the_window() -> None:
    network = alive(replace(PAPER_LIKE, time="frame"))
    z, condition = drawn(9)
    short = network(z[..., :6], torch.ones(2, 3, 1), condition)
    assert not torch.allclose(network(z, torch.ones(2, 3, 1), condition)[..., :6], short, atol=1e-2)
    with pytest.raises(ValueError, match="whole windows"):
        network(z, torch.ones(2, 3, 1), condition, present=torch.ones(2, 9, dtype=torch.bool))


def test_a_token_has_one_time_for_a_track() -> None:
    z, condition = drawn(5)
    with pytest.raises(ValueError, match="give each track one time"):
        alive(PAPER_LIKE)(z, torch.rand(2, 3, 5), condition)


def test_only_distances_between_frames_count() -> None:
    """Frames at both ends that nobody looks at move the others along, and change nothing."""
    network = alive(STREAMED)
    z, condition = drawn(9)
    times = torch.rand(2, 3, 9)
    present = (torch.arange(9) >= 3).expand(2, -1)
    late = network(z, times, condition, present=present)[..., 3:]
    assert torch.allclose(late, network(z[..., 3:], times[..., 3:], condition), atol=1e-4)


def test_one_track_with_context_and_no_condition() -> None:
    """As a renderer of tokens has it: what it is to say comes frame by frame."""
    network = alive(replace(STREAMED, tracks=1, width=24, condition=0, context=5))
    z, context = torch.randn(2, 1, 4, 7), torch.randn(2, 5, 7)
    times = torch.rand(2, 1, 1)
    assert network(z, times, context=context).shape == z.shape
    assert not torch.allclose(network(z, times, context=context), network(z, times, context=context.roll(1, -1)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 5}, "multiple of 10"),
        ({"time_features": 7}, "even number"),
        ({"condition": 0}, 'use time "frame"'),
    ],
)
def test_impossible_sizes_are_refused(changes: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(PAPER_LIKE, **changes)


def test_a_shared_modulation_is_each_blocks_own_where_blocks_have_one_and_a_table() -> None:
    shared = alive(replace(STREAMED, modulation="shared", layers=1))
    own = DiT(replace(STREAMED, layers=1)).eval()
    weights = shared.state_dict()
    nn.init.zeros_(weights["blocks.0.offset"])
    weights["blocks.0.modulation.weight"] = weights.pop("modulation.weight")
    own.load_state_dict({name: value for name, value in weights.items() if name != "blocks.0.offset"})
    (noisy, condition), times = drawn(5), torch.rand(2, 3, 5)
    assert torch.allclose(shared(noisy, times, condition), own(noisy, times, condition), atol=1e-5)
    with torch.no_grad():
        shared.blocks[0].offset.fill_(0.5)  # type: ignore[union-attr]
    assert not torch.allclose(shared(noisy, times, condition), own(noisy, times, condition), atol=1e-2)
