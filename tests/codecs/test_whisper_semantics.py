"""Whisper's layers as semantic tokens: clip and stream, and tokens that say nothing of the place in the window."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backline.codecs.clustered import HOP, agreement
from backline.codecs.whisper import WhisperConfig, WhisperEncoder
from backline.codecs.whisper_semantics import WhisperSemantics, WhisperSemanticsConfig, noise_baseline
from backline.models.errors import PackError
from backline.packs.parts import read_semantics_part
from backline.packs.registry import PackRegistry
from tests.support.contract import Semantics, verify_streaming_contract
from tests.support.whisper_model import write_whisper

SIZES = WhisperConfig(layers=2, width=16, heads=2, bands=20, positions=100)
CONFIG = WhisperSemanticsConfig(**vars(SIZES), layer=1, window_seconds=0.4, lookahead_seconds=0.1, group_frames=3)


def encoder(layer: int = 1) -> WhisperSemantics:
    torch.manual_seed(0)
    network = WhisperEncoder(SIZES).eval().requires_grad_(False)
    tensors = {**network.state_dict(), "baseline": noise_baseline(network, layer)}
    return WhisperSemantics(tensors, torch.randn(12, 16), replace(CONFIG, layer=layer))


def test_a_clip_is_heard_as_whisper_hears_it_less_what_noise_makes_of_the_place() -> None:
    listening = encoder()
    audio = 0.2 * torch.randn(2, 1, 30 * HOP)
    features = listening.features.network(audio[:, 0], 1) - listening.features.baseline[:30]  # type: ignore[attr-defined]
    assert torch.equal(listening.encode(audio), torch.cdist(features, listening.centroids[None]).argmin(-1))


def test_a_clip_of_several_windows_begins_anew_in_each() -> None:
    listening = encoder()
    window = 0.2 * torch.randn(1, 1, 100 * HOP)
    assert torch.equal(listening.encode(torch.cat([window, window], 2)), listening.encode(window).repeat(1, 2))


def test_the_place_in_the_window_is_taken_off() -> None:
    listening = encoder(layer=2)
    noise = 0.1 * torch.randn(24, 100 * HOP, generator=torch.Generator().manual_seed(5))

    def of_place(features: Tensor) -> float:
        """The share of the variance that only the place makes."""
        middle = features - features.mean((0, 1))
        return float(middle.mean(0).square().sum(1).mean() / middle.square().sum(2).mean())

    raw = listening.features.network(noise, 2)  # type: ignore[attr-defined]
    assert of_place(listening.features.whole(noise)) < 0.5 * of_place(raw)


def test_the_stream_keeps_the_contract() -> None:
    listening = encoder()

    class Windowed(Semantics):
        """Compares with the windows taken offline: the whole clip at once is another thing."""

        def __call__(self, x: Tensor) -> Tensor:
            return listening.encode_windowed(x)

    verify_streaming_contract(Windowed(listening), lambda rows, steps: 0.2 * torch.randn(rows, 1, steps), blocks=40)


def test_agreement_is_the_share_of_tokens_that_are_the_same() -> None:
    listening = encoder()
    audio = 0.2 * torch.randn(1, 1, 60 * HOP)
    same = (listening.encode_windowed(audio) == listening.encode(audio)).double().mean()
    assert agreement(listening, audio) == pytest.approx(float(same))


def test_a_part_is_read_from_a_folder_and_what_is_none_is_refused(tmp_path: Path) -> None:
    part = read_semantics_part(f"whisper:{write_whisper(tmp_path / 'w', positions=1500)}", PackRegistry(), layer=1)
    assert part.table["kind"] == "whisper"
    assert part.table["layer"] == 1
    assert part.tensors["semantics.whisper.baseline"].shape == (1500, 16)
    with pytest.raises(PackError, match="layer is 3: this Whisper has 2"):
        read_semantics_part(f"whisper:{tmp_path / 'w'}", PackRegistry(), layer=3)
    with pytest.raises(PackError, match="names no semantic encoder: use hubert:FILE"):
        read_semantics_part("wave2vec:x", PackRegistry())
    with pytest.raises(PackError, match=r"is no wheel and has no model.bin"):
        read_semantics_part(f"whisper:{tmp_path}", PackRegistry())
