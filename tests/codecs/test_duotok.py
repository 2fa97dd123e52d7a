"""DuoTok's tokenizer: sizes, what a token hears, streams that give what the whole signal gives, packs."""

from dataclasses import asdict, replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backline.codecs.base import Codec, SemanticEncoder
from backline.codecs.duotok.codec import DuoTokCodec, DuoTokSemantics, clustered_semantics, track_semantics
from backline.codecs.duotok.config import PAPER, ROLES, SMALL, DuoTokConfig, read_tokenizer_table
from backline.codecs.duotok.load import EXACT, load, packed
from backline.codecs.duotok.stream import WindowedEncoder, token_stream
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.nn.tables import TableError
from backline.packs.quantized import quantize, restore
from tests.support.contract import Encoding, Semantics, verify_streaming_contract

TINY = DuoTokConfig(
    sample_rate=1000, window=16, hop=10, bands=8, channels=8, layers=3, width=16, heads=2, kernel=3, expansion=2,
    attention="causal", context=5, ahead=(0, 2, 1), code_dim=6, projection=True, entries=40,
)  # fmt: skip
TINY_FULL = replace(TINY, attention="full", context=0, ahead=(), code_dim=16, projection=False)
TOKEN = TINY.samples_per_token


def toy(config: DuoTokConfig = TINY) -> Tokenizer:
    """Random weights, whose tokens are not all the same."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(config).eval().requires_grad_(False)
    mels = tokenizer.encoder.mel.decibels(sound(4, 50 * config.samples_per_token)[:, None])
    tokenizer.encoder.set_statistics(mels.mean((0, 2)), mels.std((0, 2)))
    return tokenizer


def sound(rows: int, samples: int, seed: int = 1) -> Tensor:
    """Noise that swells and fades."""
    generator = torch.Generator().manual_seed(seed)
    swell = torch.rand(rows, -(-samples // 60), generator=generator).repeat_interleave(60, dim=1)[:, :samples]
    return swell * torch.randn(rows, samples, generator=generator)


def channelled(rows: int, samples: int) -> Tensor:
    return sound(rows, samples, int(torch.randint(1 << 20, ())))[:, None]


def parameters(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_papers_sizes_and_those_that_ship() -> None:
    with torch.device("meta"):
        paper, small = Tokenizer(PAPER), Tokenizer(SMALL)
    assert parameters(paper.encoder) / 1e6 == pytest.approx(316.3, abs=0.1)
    assert parameters(paper) / 1e6 == pytest.approx(318.4, abs=0.1)  # with two maps of 1024 x 1024
    assert parameters(small.encoder) / 1e6 == pytest.approx(3.8, abs=0.1)
    assert parameters(small) - parameters(small.encoder) == 2 * (192 * 64 + 64 + 64 * 64 + 64)
    assert PAPER.frame_rate == SMALL.frame_rate == 25
    layer = small.encoder.streaming()
    assert layer.reach(0, 0)[1] + 1 - 960 == 8 * 960 + (1024 - 240) // 2  # 0.32 s and what a window overhangs
    assert layer.input_latency == 9 * 960  # the same in whole tokens


def test_audio_becomes_one_token_each_and_tokens_vectors() -> None:
    tokenizer = toy()
    audio = sound(2, 30 * TOKEN)
    hidden = tokenizer.encoder(audio)
    assert hidden.shape == (2, 30, TINY.width)
    mels = tokenizer.encoder.features(audio)
    assert mels.shape == (2, 120, TINY.bands)
    assert torch.equal(tokenizer.encoder.hidden(mels), hidden)
    found = {role: tokenizer.encode(audio, role) for role in ROLES}
    for role, tokens in found.items():
        assert tokens.shape == (2, 30)
        assert 0 <= int(tokens.min()) <= int(tokens.max()) < TINY.entries
        assert len(tokens.unique()) > 3
        q, same, loss = tokenizer.quantized(hidden, role)
        assert torch.equal(same, tokens)
        assert torch.allclose(tokenizer.vectors(tokens, role), q, atol=1e-6)
        assert loss > 0
    assert not torch.equal(found["vocals"], found["accompaniment"])


def test_one_codebook_for_both_tracks_is_an_ablation() -> None:
    tokenizer = toy(replace(TINY, shared_codebook=True))
    audio = sound(1, 20 * TOKEN)
    assert torch.equal(tokenizer.encode(audio, "vocals"), tokenizer.encode(audio, "accompaniment"))
    assert parameters(tokenizer) < parameters(toy())


def test_a_role_that_is_none_and_audio_that_is_no_whole_number_of_tokens_are_refused() -> None:
    tokenizer = toy()
    role: Any = "drums"
    with pytest.raises(ValueError, match="'drums': use one of vocals, accompaniment"):
        tokenizer.encode(sound(1, TOKEN), role)
    with pytest.raises(ValueError, match="61 samples are no whole number of tokens of 40"):
        tokenizer.encode(sound(1, 61), "vocals")


def test_mels_are_z_scored_by_the_statistics_that_it_carries() -> None:
    tokenizer = toy()
    mels = tokenizer.encoder.features(sound(4, 50 * TOKEN))
    assert mels.mean((0, 1)).abs().max() < 1e-3
    assert (mels.std((0, 1)) - 1).abs().max() < 1e-3
    assert {"encoder.mel.mean", "encoder.mel.deviation"} <= set(tokenizer.state_dict())


@pytest.mark.parametrize("ahead", [(0, 2, 1), (0, 0, 0), (3, 0, 2)])
def test_the_causal_encoder_is_exact_as_a_stream(ahead: tuple[int, ...]) -> None:
    layer = toy(replace(TINY, ahead=ahead)).encoder.streaming()
    assert layer.input_latency == (1 + sum(ahead)) * TOKEN  # a token for what a window overhangs
    # A Hann window begins with a zero, which no gradient passes: that sample counts, and is heard nowhere.
    layer.receptive_field = 0
    verify_streaming_contract(layer, channelled, blocks=14)


def test_what_a_token_hears_is_bounded_as_declared() -> None:
    encoder = toy(replace(TINY, context=2)).encoder
    layer = encoder.streaming()
    frame = layer.receptive_field // TOKEN + 2
    audio = sound(1, (frame + 8) * TOKEN).requires_grad_(True)
    encoder(audio)[0, frame, 0].backward()  # of one dimension: a layer norm's sum is always the same
    assert audio.grad is not None
    heard = audio.grad[0].nonzero()[:, 0]
    first, last = layer.reach(frame, frame)
    assert first <= int(heard.min()) <= first + 1  # a Hann window begins with a zero
    assert int(heard.max()) == last


@pytest.mark.parametrize("roles", [ROLES, ROLES[:1]])
def test_tokens_of_a_stream_are_those_of_the_whole_signal(roles: Any) -> None:
    tokenizer = toy()
    stream = token_stream(tokenizer, roles)
    audio = sound(4, 40 * TOKEN)[:, None]
    state = stream.init_state(4)
    pieces = []
    for piece in audio.split([TOKEN, 7 * TOKEN, 2 * TOKEN, 30 * TOKEN], dim=-1):
        tokens, state = stream.step(piece, state)
        pieces.append(tokens)
    found = torch.cat(pieces, dim=1)[:, stream.delay :]
    for row in range(4):
        expected = tokenizer.encode(audio[row], roles[row % len(roles)])
        assert torch.equal(found[row : row + 1], expected[:, : found.shape[1]])


def test_a_stream_of_hours_hears_what_it_heard_at_first() -> None:
    """Positions become angles, which must not lose their last digits."""
    layer = toy().encoder.streaming()
    audio = sound(1, 60 * TOKEN)[:, None]
    expected, _ = layer.step(audio, layer.init_state(1))
    late = layer.init_state(1)
    for state in states_with_offset(late):
        state.offset += 10_000_000
    found, _ = layer.step(audio, late)
    # What was before a stream's start is not there; a million tokens later it is zeros, for as long as they are seen.
    settled = layer.receptive_field // TOKEN + 1
    assert settled < 50
    assert torch.allclose(found[..., settled:], expected[..., settled:], atol=1e-5)


def states_with_offset(state: Any) -> list[Any]:
    if hasattr(state, "offset"):
        return [state]
    inner = getattr(state, "parts", None) or [getattr(state, name) for name in ("branch",) if hasattr(state, name)]
    return [found for part in inner for found in states_with_offset(part)]


def test_a_track_is_a_codec_that_holds_the_contract() -> None:
    codec: Codec = DuoTokCodec(toy(), "accompaniment")
    assert (codec.codebooks, codec.codebook_size, codec.hop) == (1, TINY.entries, TOKEN)
    assert codec.frame_rate == Fraction(25)
    verify_streaming_contract(Encoding(codec), channelled, blocks=12)


def test_without_a_renderer_its_codes_stay_silent_and_it_says_so() -> None:
    codec = DuoTokCodec(toy(), "vocals")
    for call in (lambda: codec.decode(torch.zeros(1, 1, 4).long()), lambda: codec.init_decode_state(1)):
        with pytest.raises(ValueError, match="no renderer of vocals"):
            call()


class Beeps:
    """Sound of a code: itself, as a level. Enough of a renderer to be told apart."""

    decode_latency = 2 * TOKEN

    def decode(self, codes: Tensor) -> Tensor:
        return codes.float().repeat_interleave(TOKEN, dim=-1)

    def init_decode_state(self, rows: int) -> int:
        return rows

    def decode_step(self, codes: Tensor, state: int, mask: Tensor | None = None) -> tuple[Tensor, int]:
        return self.decode(codes), state + 1


def test_a_renderer_gives_it_a_voice() -> None:
    codec = DuoTokCodec(toy(), "vocals", Beeps())
    codes = codec.encode(sound(2, 5 * TOKEN)[:, None])
    assert codec.decode_latency == 2 * TOKEN
    assert torch.equal(codec.decode(codes)[..., ::TOKEN], codes.float())
    assert codec.decode_step(codes, codec.init_decode_state(3))[1] == 4


@pytest.mark.parametrize("made", ["track", "clusters"])
def test_its_tokens_are_semantics_that_hold_the_contract(made: str) -> None:
    tokenizer = toy()
    centroids = torch.randn(7, TINY.width, generator=torch.Generator().manual_seed(3))
    semantics: SemanticEncoder = (
        track_semantics(tokenizer) if made == "track" else clustered_semantics(tokenizer.encoder, centroids)
    )
    audio = sound(2, 20 * TOKEN)[:, None]
    tokens = semantics.encode(audio)
    if made == "track":
        assert semantics.vocabulary == TINY.entries
        assert torch.equal(tokens, tokenizer.encode(audio[:, 0], "vocals"))
    else:
        distances = torch.cdist(tokenizer.encoder(audio[:, 0]), centroids)
        assert torch.equal(tokens, distances.argmin(-1))
        assert semantics.vocabulary == 7
    assert semantics.lookahead == 3 * TOKEN + 3  # those of the layers, and half of what a window has over a hop
    verify_streaming_contract(Semantics(semantics), channelled, blocks=12)


def test_centroids_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"centroids are \[7, 5\], must be \[token, 16\]"):
        clustered_semantics(toy().encoder, torch.zeros(7, 5))


def test_an_encoder_of_whole_clips_hears_all_of_them_and_streams_by_windows() -> None:
    tokenizer = toy(TINY_FULL)
    encoder = tokenizer.encoder
    audio = sound(1, 60 * TOKEN)
    changed = audio.clone()
    changed[:, -TOKEN:] = 0
    assert (encoder(audio) - encoder(changed)).abs().amax(-1).min() > 0
    with pytest.raises(ValueError, match="windows"):
        encoder.streaming()
    layer = WindowedEncoder(encoder)
    assert (layer.window, layer.guard, layer.input_latency) == (250, 25, 25 * TOKEN)
    long = sound(2, 700 * TOKEN)[:, None]
    split, _ = stepped(layer, long, [100, 300, 300])
    # Of a window's end all but the guard counts, so that is what a window of its own says there.
    window = torch.nn.functional.pad(long, (150 * TOKEN, 0))[..., : 250 * TOKEN]
    assert torch.allclose(split[..., :100], layer(window)[..., 125:225], atol=1e-5)
    stream = token_stream(tokenizer)
    tokens, _ = stream.step(long, stream.init_state(2))
    assert tokens.shape == (2, 700)


def test_idle_rows_of_a_windowed_encoder_stand_still_and_rows_do_not_meet() -> None:
    layer = WindowedEncoder(toy(TINY_FULL).encoder)
    audio = sound(2, 40 * TOKEN)[:, None]
    state = layer.init_state(2)
    _, state = layer.step(audio, state)
    _, after = layer.step(audio, state, torch.tensor([True, False]))
    assert torch.equal(after.audio[1], state.audio[1])
    assert not torch.equal(after.audio[0], state.audio[0])
    together, _ = layer.step(audio, state)
    alone, _ = layer.step(audio[1:], type(state)(state.audio[1:]))
    assert torch.allclose(together[1:], alone, atol=1e-5)


def stepped(layer: Any, audio: Tensor, tokens: list[int]) -> tuple[Tensor, Any]:
    state, pieces = layer.init_state(len(audio)), []
    for piece in audio.split([count * TOKEN for count in tokens], dim=-1):
        out, state = layer.step(piece, state)
        pieces.append(out)
    return torch.cat(pieces, dim=-1), state


@pytest.mark.parametrize("config", [TINY, TINY_FULL, replace(TINY, shared_codebook=True)])
def test_a_pack_gives_the_tokenizer_back(config: DuoTokConfig) -> None:
    tokenizer = toy(config)
    table, tensors = packed(tokenizer)
    assert not any("table" in name or tensor.shape[:1] == (config.entries,) for name, tensor in tensors.items())
    again = load(table, {**tensors, "other.weight": torch.zeros(1)})
    assert again.config == config
    audio = sound(2, 20 * TOKEN)
    for role in ROLES:
        assert torch.equal(again.encode(audio, role), tokenizer.encode(audio, role))


def test_a_quarter_of_the_bytes_gives_nearly_the_same_tokens() -> None:
    torch.manual_seed(0)
    config = replace(SMALL, layers=1, ahead=(2,), context=50, entries=512)
    tokenizer = toy(config)
    table, tensors = packed(tokenizer)
    stored = quantize(tensors, keep=EXACT)
    assert sum(t.nbytes for t in stored.values()) < 0.35 * sum(t.nbytes for t in tensors.values())
    again = load(table, restore(stored))
    audio = sound(4, 100 * config.samples_per_token)
    share = (again.encode(audio, "vocals") == tokenizer.encode(audio, "vocals")).float().mean()
    assert share > 0.9


def test_every_tensor_that_does_not_fit_is_named() -> None:
    table, tensors = packed(toy())
    tensors["tokenizer.encoder.mel.mean"] = torch.zeros(3)
    del tensors["tokenizer.tracks.vocals.codebook.map.bias"]
    tensors["tokenizer.tracks.drums.codebook.map.bias"] = torch.zeros(6)
    tensors["tokenizer.tracks.accompaniment.projection.bias"] = torch.full((6,), torch.nan)
    with pytest.raises(ValueError, match="is missing") as caught:
        load(table, tensors)
    for part in ("mel.mean is [3], must be [8]", "vocals.codebook.map.bias [6] is missing", "drums", "not finite"):
        assert part in str(caught.value)


def test_a_deviation_of_nothing_is_refused() -> None:
    table, tensors = packed(toy())
    tensors["tokenizer.encoder.mel.deviation"] = torch.zeros(TINY.bands)
    with pytest.raises(ValueError, match="deviation must be more than 0"):
        load(table, tensors)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers": 10**9}, "layers is 1000000000: use 1 to 128"),
        ({"entries": 10**7}, "entries is 10000000"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**80}, "seed is"),
        ({"attention": "half"}, "use one of full, causal"),
        ({"ahead": [0, 2]}, "ahead lists 2 layers, there are 3"),
        ({"ahead": [0, 2, -1]}, "ahead[2] is -1"),
        ({"attention": "full"}, "leave them out"),
        ({"window": 17}, "window is 17: use one that is longer than the hop by an even number"),
        ({"window": 8}, "window is 8"),
        ({"window": 65_536}, "window is 65536: use 2 to 8192"),
        ({"width": 16_384, "context": 65_536}, "context is 65536: a stream would hold"),
        ({"window": 200}, "window is 200: use at most 90"),
        ({"code_dim": 7, "projection": False}, "code_dim is 7: without a projection it is the width, 16"),
        ({"width": 18}, "width is 18"),
        ({"kernel": 4}, "kernel is 4: use an odd number"),
        ({"heads": True}, "heads is True"),
        ({"colour": 3}, "unknown entries ['colour']"),
        ({"dropout": float("nan")}, "dropout"),
    ],
)
def test_tables_that_describe_no_tokenizer_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError) as caught:
        read_tokenizer_table({"kind": "duotok", **TINY.to_table(), **wrong})
    assert message in str(caught.value)


def test_a_table_is_read_as_it_was_written() -> None:
    for config in (PAPER, SMALL, TINY):
        assert read_tokenizer_table(config.to_table()) == config
    assert asdict(PAPER) == asdict(read_tokenizer_table({}))


def test_semantics_of_whole_clips_look_ahead_by_the_guard() -> None:
    semantics = DuoTokSemantics(toy(TINY_FULL).encoder, lambda hidden: hidden.argmax(-1), TINY.width)
    assert semantics.lookahead == 25 * TOKEN
