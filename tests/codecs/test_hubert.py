"""HuBERT as a semantic encoder: torchaudio's network offline, windows with a declared look-ahead as a stream."""

import re
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from backline.codecs.clustered import HOP
from backline.codecs.hubert import HubertConfig, HubertEncoder, hubert_layout, hubert_names
from backline.codecs.torchaudio_import import import_torchaudio
from tests.support.contract import Semantics, verify_streaming_contract

TINY = HubertConfig(
    layers=2,
    dimension=32,
    heads=4,
    feed_forward=64,
    conv_channels=16,
    position_kernel=16,
    position_groups=4,
    window_seconds=0.4,
    lookahead_seconds=0.1,
    group_frames=3,
)
VOCABULARY = 50


def deeper_network() -> Any:
    """torchaudio's own HuBERT of TINY's sizes with one layer more, as a checkpoint has layers that are not used."""
    torch.manual_seed(0)
    model = import_torchaudio().models.hubert_pretrain_model(
        extractor_mode="layer_norm",
        extractor_conv_layer_config=[(16, 10, 5)] + [(16, 3, 2)] * 4 + [(16, 2, 2)] * 2,
        extractor_conv_bias=False,
        encoder_embed_dim=32,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4,
        encoder_num_layers=3,
        encoder_num_heads=4,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=64,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=True,
        encoder_layer_drop=0.0,
        mask_prob=0.8,
        mask_selection="static",
        mask_other=0.0,
        mask_length=10,
        no_mask_overlap=False,
        mask_min_space=1,
        mask_channel_prob=0.0,
        mask_channel_selection="static",
        mask_channel_other=0.0,
        mask_channel_length=10,
        no_mask_channel_overlap=False,
        mask_channel_min_space=1,
        skip_masked=False,
        skip_nomask=False,
        num_classes=10,
        final_dim=8,
        feature_grad_mult=None,
    )
    return model.wav2vec2.eval()


NETWORK = deeper_network()
# Centroids among features that occur, so that all tokens are in play.
CENTROIDS = NETWORK.extract_features(torch.randn(1, VOCABULARY * HOP + 80), num_layers=2)[0][1][0].detach()


@pytest.fixture(scope="module")
def encoder() -> HubertEncoder:
    return HubertEncoder(hubert_names(NETWORK.state_dict(), TINY), CENTROIDS, TINY)


def sound(rows: int, samples: int) -> Tensor:
    return 0.2 * torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(samples))


def hugging_face_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As transformers' HubertModel names them."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        name = name.replace("parametrizations.weight.original1", "weight_v")
        name = re.sub(r"^encoder\.feature_projection", "feature_projection", name)
        renamed["hubert." + name.replace("encoder.transformer.", "encoder.")] = tensor
    renamed["hubert.masked_spec_embed"] = torch.zeros(32)
    return renamed


@torch.no_grad()
def test_offline_tokens_are_the_networks_own(encoder: HubertEncoder) -> None:
    audio = sound(2, 40 * HOP)
    normalised = torch.stack([(row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt() for row in audio[:, 0]])
    features = NETWORK.extract_features(F.pad(normalised, (40, 40)))[0][1]
    expected = torch.cdist(features, CENTROIDS[None]).argmin(-1)
    tokens = encoder.encode(audio)
    assert tokens.shape == (2, 40)
    assert torch.equal(tokens, expected)
    assert len(tokens.unique()) > 5


def test_there_are_exactly_fifty_frames_a_second(encoder: HubertEncoder) -> None:
    assert encoder.frame_rate == Fraction(50)
    for seconds in (1, 3):
        assert encoder.encode(sound(1, seconds * 16_000)).shape == (1, 50 * seconds)


def test_the_stream_keeps_the_contract(encoder: HubertEncoder) -> None:
    class Windowed(Semantics):
        """Compares with the windows taken offline: the whole clip at once is another thing."""

        def __call__(self, x: Tensor) -> Tensor:
            return encoder.encode_windowed(x)

    verify_streaming_contract(Windowed(encoder), lambda rows, steps: 0.2 * torch.randn(rows, 1, steps), blocks=40)


@torch.no_grad()
@pytest.mark.parametrize("frame", [0, 4, 13, 14, 15, 29, 38])
def test_a_frame_is_taken_from_the_window_that_ends_its_lookahead_later(encoder: HubertEncoder, frame: int) -> None:
    """The oracle: cut the window, normalise by all that was heard, take the frame."""
    audio = sound(1, 50 * HOP)
    end = (frame // 3 * 3 + 3 + 5) * HOP  # of the group of three, and five frames of look-ahead
    begin = max(0, end - 20 * HOP)
    heard = audio[0, 0, :end]
    window = (heard[begin:] - heard.mean()) / (heard.var(correction=0) + 1e-5).sqrt()
    features = NETWORK.extract_features(F.pad(window[None], (40, 40)))[0][1][0]
    expected = torch.cdist(features, CENTROIDS).argmin(-1)[frame - begin // HOP]
    assert encoder.encode_windowed(audio)[0, frame] == expected


def test_the_declared_lookahead_is_enough_and_not_too_much(encoder: HubertEncoder) -> None:
    assert encoder.lookahead == (3 - 1 + 5) * HOP
    audio = sound(1, 60 * HOP)
    changed = audio.clone()
    changed[..., 30 * HOP + encoder.lookahead :] = 0.5
    assert torch.equal(encoder.encode_windowed(audio)[:, :30], encoder.encode_windowed(changed)[:, :30])


def test_a_window_over_everything_comes_close_to_the_whole_clip() -> None:
    long = HubertConfig(**{**TINY.to_table(), "window_seconds": 2.0, "lookahead_seconds": 1.0})
    encoder = HubertEncoder(hubert_names(NETWORK.state_dict(), long), CENTROIDS, long)
    audio = sound(1, 100 * HOP)
    agreement = (encoder.encode_windowed(audio) == encoder.encode(audio)).float().mean()
    assert agreement > 0.5


def test_hugging_face_names_are_understood(encoder: HubertEncoder) -> None:
    other = HubertEncoder(hubert_names(hugging_face_names(NETWORK.state_dict()), TINY), CENTROIDS, TINY)
    audio = sound(1, 20 * HOP)
    assert torch.equal(other.encode(audio), encoder.encode(audio))


def test_the_default_is_hubert_large_up_to_its_ninth_layer() -> None:
    layout = hubert_layout(HubertConfig())
    parameters = sum(int(torch.tensor(shape).prod()) for shape in layout.values())
    assert round(parameters / 1e6, 1) == 126.5  # of 315.4 million


def test_every_mismatch_is_reported_at_once() -> None:
    tensors = hubert_names(NETWORK.state_dict(), TINY)
    tensors["encoder.transformer.layer_norm.weight"] = torch.zeros(31)
    del tensors["encoder.transformer.pos_conv_embed.conv.bias"]
    with pytest.raises(ValueError, match=r"conv.bias \[32\] is missing; .*layer_norm.weight is \[31\].*; centroids"):
        HubertEncoder(tensors, torch.zeros(5, 7), TINY)


def test_a_window_too_short_for_its_lookahead_is_refused() -> None:
    short = HubertConfig(**{**TINY.to_table(), "window_seconds": 0.1})
    with pytest.raises(ValueError, match="a window of 5 frames cannot hold 3 frames and 5 of look-ahead"):
        HubertEncoder(hubert_names(NETWORK.state_dict(), short), CENTROIDS, short)
