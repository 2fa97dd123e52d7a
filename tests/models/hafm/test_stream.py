"""HAFM as a stream: what it needs, what it answers, and that nothing but the session itself decides on that."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from backline.codecs.encodec import HELD_FRAMES, checkpoint_layout
from backline.codecs.hubert import HubertConfig, hubert_layout
from backline.models.errors import PackError
from backline.models.families import describe
from backline.models.families import load as load_family
from backline.models.hafm.grid import Grid
from backline.models.hafm.load import build, load, tiny_random
from backline.models.hafm.stream import HafmStream, below_full_scale, voice_noise
from backline.models.rows import sounding
from backline.models.stream import RowBytes, RowFailed, SessionConfig, Transport
from tests.support.contract import state_tensors
from tests.support.hafm import RATE, Player, play, session, voice


@pytest.fixture(scope="module", params=["interleaved", "aligned"])
def stream(request: pytest.FixtureRequest) -> HafmStream:
    return load(*tiny_random(layout=request.param), "cpu")


def alone(stream: HafmStream, config: SessionConfig, signal: np.ndarray, chunks: int) -> Player:
    player = Player(stream, config, signal)
    play([player], chunks)
    stream.close(player.row)
    return player


def test_output_is_gapless_and_codec_frames_come_with_it(stream: HafmStream) -> None:
    player = alone(stream, session(0.4, 0.2), voice(2), 4)
    codec, held_back = stream.parts.codec, stream.band.held_back
    assert player.audio().shape[1] == 4 * 9600 - held_back * codec.hop - codec.decode_latency
    assert player.codes().shape == (120 - held_back, codec.codebooks)
    assert player.codes().min() >= 0
    assert player.codes().max() < 1024
    assert np.isfinite(player.audio()).all()


def test_audio_is_the_codes_decoded_offline(stream: HafmStream) -> None:
    player = alone(stream, session(0.4, 0.2, parameters={"gate": -120.0}), voice(2), 4)
    whole = stream.parts.codec.decode(torch.from_numpy(player.codes().T.astype(np.int64))[None])[0].numpy()
    audio = player.audio()
    np.testing.assert_allclose(audio, whole[:, : audio.shape[1]], atol=1e-5)


def test_the_voice_heard_is_the_voice_encoded_offline(stream: HafmStream) -> None:
    """Chunk by chunk, the vocal tokens are those of the whole signal, as far as each chunk may see."""
    signal = voice(2)
    config = session(0.4, 0.17, seed=7)
    player = Player(stream, config, signal)
    row = stream._rows[player.row]
    heard = []
    for chunk in range(4):
        given = player.next_input()
        heard.append(stream._hear(row, given.audio, ahead=0.0))
        assert sum(tokens.shape[1] for tokens in heard) == int((chunk * 0.4 + 0.17) * 50 + 1e-9)
        row.chunk += 1
    stream.close(player.row)
    noisy = signal + 0.01 * voice_noise(7, 0, signal.shape[1])
    whole = stream.parts.encoder.encode(torch.from_numpy(noisy)[None]).numpy()
    tokens = np.concatenate(heard, axis=1)
    np.testing.assert_array_equal(tokens, whole[:, : tokens.shape[1]])


@pytest.mark.parametrize(("visibility", "first_heard"), [(0.4, 0), (0.0, 1), (-0.1, 1), (-0.9, 3)])
def test_a_chunk_asks_for_input_up_to_its_visibility_and_the_look_ahead(
    stream: HafmStream, visibility: float, first_heard: int
) -> None:
    player = Player(stream, session(0.4, visibility), voice(2))
    look_ahead = stream.parts.encoder.lookahead
    for chunk in range(5):
        required = stream.required_input(player.row)
        if chunk < first_heard:
            assert required == 0
        else:
            assert required == round((chunk * 0.4 + visibility) * RATE) + look_ahead
        play([player], 1)
    stream.close(player.row)


def test_later_input_does_not_change_earlier_chunks(stream: HafmStream) -> None:
    config = session(0.4, 0.2)
    signal = voice(2)
    changed = signal.copy()
    player = Player(stream, config, signal)
    play([player], 2)
    changed[:, player.fed :] = 0.5
    stream.close(player.row)
    other = alone(stream, config, changed, 2)
    np.testing.assert_array_equal(player.codes(), other.codes())


def test_a_session_plays_the_same_alone_and_among_others(stream: HafmStream) -> None:
    """Other chunks, visibilities, guidance and seeds in the same batch; rows differ, too."""
    configs = [
        session(0.4, 0.4, seed=1),
        session(0.8, -0.3, seed=2, parameters={"guidance": 1.0, "temperature": 1.2}),
        session(0.04, 0.0, seed=3, parameters={"top_k": 5}),
    ]
    expected = [alone(stream, config, voice(3, n), 3) for n, config in enumerate(configs)]
    together = [Player(stream, config, voice(3, n)) for n, config in reversed(list(enumerate(configs)))]
    play(together, 3)
    for player, reference in zip(reversed(together), expected, strict=True):
        np.testing.assert_array_equal(player.codes(), reference.codes())
        np.testing.assert_array_equal(player.audio(), reference.audio())
        stream.close(player.row)


def test_the_seed_decides(stream: HafmStream) -> None:
    first, again, other = (alone(stream, session(seed=seed), voice(1), 2).codes() for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_transport_has_a_say(stream: HafmStream) -> None:
    config = session(parameters={"temperature": 0.0})
    still = alone(stream, config, voice(1), 1)
    player = Player(stream, config, voice(1), transport=Transport(0.0, playing=True, tempo=120.0))
    play([player], 1)
    stream.close(player.row)
    assert (player.codes() != still.codes()).any()


def test_latency_is_named_by_its_causes(stream: HafmStream) -> None:
    items = {item.name: item.seconds for item in stream.latency(session(0.4, 0.31))}
    codec = 0.04 + stream.band.held_back / 75
    assert items == pytest.approx({"front_end": 0.04, "visibility": 0.3, "codec": codec})
    items = {item.name: item.seconds for item in stream.latency(session(0.4, -1.0))}
    assert items["visibility"] == pytest.approx(-1.0)


def test_warming_up_leaves_sessions_alone_and_says_what_a_second_costs(stream: HafmStream) -> None:
    config = session()
    expected = alone(stream, config, voice(2), 3)
    player = Player(stream, config, voice(2))
    play([player], 1)
    assert stream.warm_up(config) > 0
    play([player], 2)
    stream.close(player.row)
    np.testing.assert_array_equal(player.codes(), expected.codes())


def test_a_row_tells_its_caches_and_its_state_and_neither_grows(stream: HafmStream) -> None:
    player = Player(stream, session(0.4, 0.4), voice(4))
    play([player], 2)
    told = stream.row_bytes(player.row)
    band: Any = stream.band
    players = getattr(band, "players", None)
    decoders = [band.semantic, band.acoustic] if players is None else [each.decoder for each in players.values()]
    copies = [decoder.snapshot(player.row) for decoder in decoders]
    assert told.kv == sum(copy.keys.nbytes + copy.values.nbytes for copy in copies) > 0
    row = stream._rows[player.row]
    states = [*state_tensors(row.encoder_state), *state_tensors(row.decoder_state)]
    assert told.other == sum(tensor.nbytes for tensor in states) > 0
    play([player], 6)
    assert stream.row_bytes(player.row) == told
    stream.close(player.row)
    assert stream.row_bytes(player.row) == RowBytes()


def test_rows_run_out_and_come_back() -> None:
    stream = load(*tiny_random(), "cpu")
    rows = [stream.open(session()) for _ in range(stream.capacity)]
    with pytest.raises(RuntimeError, match="all 8 rows are taken"):
        stream.open(session())
    stream.close(rows[3])
    assert stream.open(session()) == rows[3]
    assert stream.resident_bytes() > 0


def test_recomputing_differs_from_evicting_only_once_the_window_slides() -> None:
    """The keys and values that stay still know what has left the window: the caveat of appending for ever."""
    config, tensors = tiny_random()
    evict, recompute = (
        build({**config, "stream": {"cache": cache}}, tensors, "cpu", "float32") for cache in ("evict", "recompute")
    )
    settings = session(0.08, 0.08, parameters={"temperature": 0.0})
    codes = [alone(stream, settings, voice(1), 9).codes() for stream in (evict, recompute)]
    filled = 128 // (
        4 + 4 + 6 * 4
    )  # chunks whose vocal, instrumental and coarse positions fill the coarse stage's window
    np.testing.assert_array_equal(codes[0][: filled * 6], codes[1][: filled * 6])
    assert (codes[0] != codes[1]).any()


@pytest.mark.parametrize("layout", ["interleaved", "aligned"])
def test_torch_and_the_fused_step_play_the_same(layout: str) -> None:
    config, tensors = tiny_random(layout=layout)
    settings = session(0.2, 0.1)
    fused, reference = (
        alone(build(config, tensors, "cpu", backend), settings, voice(1), 3).codes() for backend in ("float32", "torch")
    )
    np.testing.assert_array_equal(fused, reference)


def test_voice_noise_is_gaussian_and_the_same_however_it_is_cut() -> None:
    whole = voice_noise(3, 0, 30_000)
    assert abs(float(whole.mean())) < 0.02
    assert abs(float(whole.std()) - 1) < 0.02
    np.testing.assert_array_equal(np.concatenate([voice_noise(3, 0, 7), voice_noise(3, 7, 29_993)], 1), whole)


def test_a_chunk_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"chunk of 0.5 s: use a multiple of 0.04 s"):
        Grid.of(0.5, 0.1)
    with pytest.raises(ValueError, match=r"visibility of 0.5 s: use at most 0.4 s"):
        Grid.of(0.4, 0.5)


@pytest.mark.skipif(find_spec("torchaudio") is None, reason="needs torchaudio: pip install 'backline[hubert]'")
def test_the_papers_front_end_and_codec_serve_as_well() -> None:
    """HuBERT at 16 kHz, late by its windows, and EnCodec, late by the frames that it holds back; random weights."""
    hubert = HubertConfig(
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
    config, tensors = tiny_random()
    random = torch.Generator().manual_seed(0)
    tensors |= {f"codec.{n}": torch.randn(s, generator=random) * 0.02 for n, s in checkpoint_layout(8).items()}
    tensors |= {f"semantics.hubert.{n}": torch.randn(s, generator=random) for n, s in hubert_layout(hubert).items()}
    tensors["semantics.hubert.centroids"] = torch.randn(500, 32, generator=random)
    config |= {"codec": {"kind": "encodec", "codebooks": 8}}
    config |= {"semantics": {"kind": "hubert", "vocabulary": 500, **hubert.to_table()}}
    stream = load(config, tensors, "cpu")
    assert (stream.spec.input_rate, stream.spec.output_rate) == (16_000, 24_000)
    player = Player(stream, session(0.4, 0.2), voice(2))
    assert stream.required_input(player.row) == int(0.2 * 16_000) + stream.parts.encoder.lookahead
    play([player], 3)
    assert player.audio().shape[1] == 3 * 9600 - HELD_FRAMES * 320
    assert np.isfinite(player.audio()).all()
    items = {item.name: item.seconds for item in stream.latency(player.config)}
    assert items == pytest.approx({"front_end": 7 / 50, "visibility": 0.2, "codec": HELD_FRAMES / 75})


# ---- loading


def test_a_description_needs_no_weights() -> None:
    config, tensors = tiny_random()
    assert describe(config) == load_family(config, tensors, "cpu").spec
    assert describe(config).default_chunk_seconds == Fraction(2, 5)


def test_a_damaged_pack_names_all_its_problems_at_once() -> None:
    config, tensors = tiny_random()
    del tensors["coarse.segment"]
    tensors["fine.heads"] = tensors["fine.heads"][:, :7]
    tensors["semantic.extra"] = torch.zeros(1)
    del tensors["semantics.vocal.centroids"]
    tensors = {name: t for name, t in tensors.items() if not name.startswith("codec.quantizer")}
    with pytest.raises(PackError) as caught:
        load(config, tensors, "cpu")
    message = str(caught.value)
    for part in (
        "coarse.segment [3, 32] is missing",
        "fine.heads is [4, 7, 32], must be [4, 1024, 32]",
        "semantic.extra is not part of this network",
        "semantics.vocal.centroids",
        "codec.quantizer",
    ):
        assert part in message


def test_impossible_tables_are_named() -> None:
    config, _ = tiny_random()
    wrong = {**config, "codec": {"kind": "mp3"}, "semantics": {}, "stream": {"cache": "none"}, "sampling": {"p": 1}}
    with pytest.raises(PackError) as caught:
        describe(wrong)
    message = str(caught.value)
    for part in ("kind is 'mp3'", "[semantics] lacks kind", "cache is 'none'", "'p'"):
        assert part in message
    with pytest.raises(PackError, match="knows 500 vocal tokens, the semantic encoder has 100"):
        describe({**config, "semantics": {"kind": "hubert", "vocabulary": 100}})
    network = config["network"] | {"fine": {**config["network"]["fine"], "rate": 50}}
    with pytest.raises(PackError, match="coarse and fine stage run at 75 and 50"):
        describe({**config, "network": network})


def test_every_parameter_refuses_what_it_cannot_use(stream: HafmStream) -> None:
    parameters = {parameter.name: parameter for parameter in stream.spec.parameters}
    led = {"key", "chords"} if stream.band.takes_key else set()
    assert set(parameters) == {"guidance", "temperature", "top_k", "gate"} | led
    with pytest.raises(ValueError, match="0 to 10"):
        parameters["guidance"].check(11)
    with pytest.raises(ValueError, match="whole number"):
        replace(parameters["top_k"]).check(2.5)


def test_peaks_stay_below_full_scale_and_all_else_is_untouched() -> None:
    audio = np.linspace(-4, 4, 2001, dtype=np.float32)[None]
    bent = below_full_scale(audio)
    quiet = np.abs(audio) <= 0.6
    assert bent.dtype == np.float32
    assert np.array_equal(bent[quiet], audio[quiet])
    assert np.abs(bent).max() <= 0.75
    assert (np.diff(bent) >= 0).all()


@pytest.mark.parametrize("where", ["voice", "stage", "sound"])
def test_a_row_that_fails_leaves_the_others_as_they_would_be_without_it(
    stream: HafmStream, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = session(0.4, 0.2, seed=5)
    expected = alone(stream, config, voice(2), 4)
    victim, bystander = Player(stream, session(0.4, 0.2), voice(2, seed=1)), Player(stream, config, voice(2))
    play([victim, bystander], 2)
    if where == "voice":  # a block that is no whole number of frames
        spoil_input = victim.next_input()
        spoilt = replace(spoil_input, audio=spoil_input.audio[:, :-7])
    else:
        spoilt = victim.next_input()
    if where == "stage":
        fail_in_the_last_stage(stream, victim.row, monkeypatch)
    if where == "sound":
        stream._rows[victim.row].decoder_state = None
    answers = stream.step([spoilt, bystander.next_input()])
    assert isinstance(answers[0], RowFailed)
    bystander.outputs.append(sounding(answers[1]))
    stream.close(victim.row)
    play([bystander], 1)
    stream.close(bystander.row)
    np.testing.assert_array_equal(bystander.audio(), expected.audio())


def fail_in_the_last_stage(stream: HafmStream, row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the stage raise after it has moved all rows of the call, wherever `row` is among them."""
    band: Any = stream.band
    decoder, name = (
        (band.acoustic, "generate_frames") if hasattr(band, "acoustic") else (band.players["fine"].decoder, "generate")
    )
    generate = getattr(decoder, name)

    def failing(rows: Sequence[int], *arguments: Any, **named: Any) -> Any:
        found = generate(rows, *arguments, **named)
        if row in rows:
            raise ArithmeticError("a logit is no number")
        return found

    monkeypatch.setattr(decoder, name, failing)
