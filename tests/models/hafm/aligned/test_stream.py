"""The aligned layout as a stream and as a pack: its latency, its key, and what is refused before anything plays.

What holds for both layouts is in test_stream.py.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from backline.models.errors import PackError
from backline.models.families import describe
from backline.models.hafm.aligned.config import LOOKAHEAD, TINY
from backline.models.hafm.band import Sampling
from backline.models.hafm.listening.hints import CHORDS, HINT_LAGS
from backline.models.hafm.load import build, load, tiny_random
from backline.models.hafm.offline import generate
from backline.models.hafm.score import chord_name
from backline.models.hafm.stream import HafmStream
from backline.models.stream import Notes, Transport
from tests.support.hafm import RATE, Player, play, session, voice


@pytest.fixture(scope="module")
def stream() -> HafmStream:
    return build(*tiny_random(layout="aligned"), "cpu", "float32")


def codes(
    stream: HafmStream,
    chunks: int = 2,
    notes: Sequence[Notes] = (),
    chunk: float = 0.4,
    transport: Transport | None = None,
    **parameters: float,
) -> np.ndarray:
    """[frame, codebook] of a session."""
    player = Player(stream, session(chunk, chunk, parameters=parameters), voice(2), transport, notes)
    play([player], chunks)
    stream.close(player.row)
    return player.codes()


@pytest.mark.parametrize(
    ("chunk", "visibility"), [(0.04, 0.04), (0.08, -0.2), (0.4, 0.31), (0.4, -0.5), (0.4, 1.2), (0.8, 0.8)]
)
def test_the_latency_declared_is_the_latency_measured(stream: HafmStream, chunk: float, visibility: float) -> None:
    """Every chunk's output begins so much before the end of the input that it needed; nothing is left out."""
    config = session(chunk, visibility)
    latency = sum(item.seconds for item in stream.latency(config)) * RATE
    player = Player(stream, config, voice(3))
    measured = set()
    for _ in range(max(4, round(1.6 / chunk))):
        play([player], 1)
        output = player.outputs[-1]
        if output.position and player.fed:
            measured.add(player.fed - output.position)
    stream.close(player.row)
    assert list(measured) == pytest.approx([latency])
    codec = stream.parts.codec
    later = stream.band.held_back * codec.hop + codec.decode_latency
    assert player.audio().shape[1] == len(player.outputs) * round(chunk * RATE) - later
    assert len(player.codes()) == len(player.outputs) * round(chunk * 75) - stream.band.held_back


def test_a_visibility_may_exceed_the_chunk_by_the_look_ahead_and_no_more(stream: HafmStream) -> None:
    assert stream.spec.lookahead_seconds == float(LOOKAHEAD)
    latest = 0.4 + float(LOOKAHEAD)
    player = Player(stream, session(0.4, latest), voice(3))
    assert stream.required_input(player.row) == round(latest * RATE) + stream.parts.encoder.lookahead
    stream.close(player.row)
    with pytest.raises(ValueError, match=f"use at most {latest:g} s"):
        stream.open(session(0.4, latest + 0.1))


def test_the_key_told_has_a_say_and_zero_is_none(stream: HafmStream) -> None:
    heard = codes(stream)
    np.testing.assert_array_equal(codes(stream, key=0), heard)
    assert (codes(stream, key=2) != codes(stream, key=7)).any()


def held(seconds: float, *pitches: int, velocity: int = 90) -> Notes:
    return Notes(int(seconds * RATE), b"".join(bytes([0x90, pitch, velocity]) for pitch in pitches))


def test_a_chord_that_is_held_has_a_say_unless_the_voice_alone_shall_lead(stream: HafmStream) -> None:
    assert stream.spec.takes_notes
    alone = codes(stream)
    f_sharp, c = held(0.0, 54, 58, 61), held(0.0, 48, 52, 55)
    assert (codes(stream, notes=[f_sharp]) != codes(stream, notes=[c])).any()
    np.testing.assert_array_equal(codes(stream, notes=[f_sharp], chords=0), alone)


def test_what_is_let_go_of_before_it_counts_leaves_no_trace(stream: HafmStream) -> None:
    """But where notes lead alone, the last chord stays."""
    gone = [held(0.001, 54, 58, 61), held(0.002, 54, 58, 61, velocity=0)]
    np.testing.assert_array_equal(codes(stream, notes=gone), codes(stream))
    stays = codes(stream, notes=gone, chords=1)
    np.testing.assert_array_equal(stays, codes(stream, notes=gone[:1], chords=1))
    assert (stays != codes(stream, chords=1)).any()


def test_a_chord_that_stays_tells_nothing_more_of_the_key(stream: HafmStream) -> None:
    """Hands off: a last chord that is foreign to the song must not move the whole band, however long it stays."""
    band = stream.band
    player = Player(
        stream, session(parameters={"chords": 1}), voice(1), notes=[held(0.0, 48), held(0.1, 48, velocity=0)]
    )
    evidence = []
    for _ in range(4):
        play([player], 1)
        evidence.append(band._listeners[player.row]._scores.copy())
    stream.close(player.row)
    silent = Player(stream, session(parameters={"chords": 1}), voice(1))
    play([silent], 4)
    quiet = band._listeners[silent.row]._scores
    stream.close(silent.row)
    once = evidence[-1] - quiet
    assert np.abs(once).max() < 1.0  # of the few steps in which it was held


def test_a_chord_counts_from_its_own_step_wherever_chunks_are_cut(stream: HafmStream) -> None:
    struck = [held(0.9, 54, 58, 61)]
    beat = Transport(0.0, playing=True, tempo=100.0)
    once, twice = (codes(stream, round(1.6 / chunk), struck, chunk, beat, key=1) for chunk in (0.4, 0.8))
    np.testing.assert_array_equal(once, twice)
    alone = codes(stream, 4, transport=beat, key=1)
    before = int(0.88 * 75) - stream.band.held_back
    np.testing.assert_array_equal(once[:before], alone[:before])
    assert (once != alone).any()


def test_it_tells_the_chords_that_it_plays_by_from_where_they_are_held(stream: HafmStream) -> None:
    """In whichever key it believes to be."""
    notes = [held(0.0, 58, 62, 65), held(0.62, 58, 62, 65, velocity=0), held(0.62, 57, 60, 64)]
    for key in (0, 5):
        player = Player(stream, session(parameters={"chords": 1, "key": key}), voice(2), notes=notes)
        play([player], 4)
        stream.close(player.row)
        told = [heard for output in player.outputs for heard in output.heard]
        assert [(heard.at_seconds, heard.chord) for heard in told] == [
            (0.0, "Bb"),
            (0.4, "Bb"),
            (0.6, "Am"),
            (0.8, "Am"),
            (1.2, "Am"),
        ]
        assert {heard.transport for heard in told} == {None}  # a pack without a table hears no beat


def test_it_tells_the_chord_that_it_hears_and_none_before_it_has_heard_any(stream: HafmStream) -> None:
    player = Player(stream, session(0.4, -0.4), voice(4), Transport(0.0, True, 120.0))
    play([player], 6)
    stream.close(player.row)
    chords = [heard.chord for output in player.outputs for heard in output.heard]
    assert chords[0] == ""
    assert chords[-1] in {chord_name(chord) for chord in range(CHORDS)}


def test_a_held_chord_opens_the_gate(stream: HafmStream) -> None:
    """Nobody sings: who holds a chord wants to hear it."""
    quiet = Player(stream, session(), np.zeros((1, 2 * RATE), np.float32))
    led = Player(stream, session(), np.zeros((1, 2 * RATE), np.float32), notes=[held(0.0, 48, 52, 55)])
    play([quiet, led], 4)
    for player in (quiet, led):
        stream.close(player.row)
    assert not quiet.audio().any()
    assert led.audio().any()


def test_c_minor_and_its_relative_are_one_key(stream: HafmStream) -> None:
    """13 is C minor, 4 is E flat major."""
    np.testing.assert_array_equal(codes(stream, key=13), codes(stream, key=4))


def test_a_key_is_a_whole_number_from_none_to_b_minor(stream: HafmStream) -> None:
    key = next(parameter for parameter in stream.spec.parameters if parameter.name == "key")
    assert (key.default, key.minimum, key.maximum, key.integer) == (0, 0, 24, True)
    with pytest.raises(ValueError, match="0 to 24"):
        key.check(25)


def test_a_transport_that_starts_is_heard_at_once(stream: HafmStream) -> None:
    config = session(parameters={"temperature": 0.0, "guidance": 1.0})
    player = Player(stream, config, voice(2))
    play([player], 1)
    player.transport = Transport(0.4, playing=True, tempo=120.0)
    play([player], 1)
    stream.close(player.row)
    standing = codes(stream, temperature=0.0, guidance=1.0)
    first = 30 - stream.band.held_back
    np.testing.assert_array_equal(player.codes()[:first], standing[:first])
    assert (player.codes()[first:] != standing[first:]).any()


def test_memory_counts_codec_semantics_and_both_stages(stream: HafmStream) -> None:
    _, tensors = tiny_random(layout="aligned")
    assert stream.resident_bytes() > sum(4 * tensor.numel() for tensor in tensors.values())


def test_warming_up_takes_as_long_as_the_windows(stream: HafmStream) -> None:
    longest = max(Fraction(stage.window, stage.rate) for stage in TINY.stages().values())
    assert stream.band.full_after() == longest
    assert stream.warm_up(session(0.4, -0.4, parameters={"key": 5})) > 0


def test_the_papers_layout_is_refused(stream: HafmStream) -> None:
    with pytest.raises(ValueError, match="this pack's stages are aligned: only interleaved ones know the paper's"):
        generate(stream, voice(0.4), 1, Sampling())


# ---- loading ----


def problems(config: Mapping[str, Any]) -> str:
    with pytest.raises(PackError) as caught:
        describe(config)
    return str(caught.value)


def test_a_description_needs_no_weights() -> None:
    config, tensors = tiny_random(layout="aligned")
    assert describe(config) == load(config, tensors, "cpu").spec


def test_everything_in_the_tables_that_does_not_fit_is_named_at_once() -> None:
    config, _ = tiny_random(layout="aligned")
    semantic, acoustic = config["network"]["semantic"], config["network"]["acoustic"]
    vocal, beat, lag, *_ = semantic["sources"]
    config["network"] = {
        "layout": "aligned",
        "semantic": {**semantic, "delays": [0, 1, 0, 0, 0], "sources": [vocal, {**beat, "vocabulary": 49}]},
        "acoustic": {**acoustic, "sources": [*acoustic["sources"], lag, {**vocal, "name": "choir"}]},
    }
    config |= {"codec": {**config["codec"], "codebooks": 2}, "semantics": {"kind": "harmony", "vocabulary": 500}}
    message = problems(config)
    for part in (
        f"predicts {len(acoustic['delays'])} codebooks of 1024 at 75 frames a second, the codec has 2 codebooks",
        "[network.semantic] has delays [0, 1, 0, 0, 0]: it can have none",
        "aligned stages know 241 vocal tokens, the semantic encoder has 500",
        "[network.semantic] takes beat as",
        "[network.acoustic] is conditioned on choir, lag, which is not there when it runs",
    ):
        assert part in message


def test_a_stage_that_makes_no_score_is_named() -> None:
    config, _ = tiny_random(layout="aligned")
    config["network"]["semantic"]["vocabulary"] = 500
    assert "the semantic stage predicts 5 codebooks of 500 at 50 frames a second, a score has" in problems(config)


def test_codes_at_another_rate_than_the_codecs_are_named() -> None:
    config, _ = tiny_random(layout="aligned")
    config["network"]["acoustic"]["rate"] = 50
    assert "1024 at 50 frames a second, the codec has" in problems(config)


def test_an_unknown_layout_is_named_beside_all_else() -> None:
    config, _ = tiny_random(layout="aligned")
    config["network"]["layout"] = "spiral"
    message = problems({**config, "codec": {"kind": "mp3"}})
    assert "[network] layout is 'spiral': use one of interleaved, aligned" in message
    assert "kind is 'mp3'" in message


def test_every_tensor_that_does_not_fit_is_named_at_once() -> None:
    config, tensors = tiny_random(layout="aligned")
    del tensors["semantics.key"]
    del tensors["semantics.hints.outer"]
    del tensors["semantic.conditions.lag"]
    tensors["acoustic.heads"] = tensors["acoustic.heads"][:, :7]
    tensors["semantics.vocal.centroids"] = tensors["semantics.vocal.centroids"][:100]
    tensors["acoustic.segment"] = torch.zeros(1)
    with pytest.raises(PackError) as caught:
        load(config, tensors, "cpu")
    message = str(caught.value)
    lag = config["network"]["semantic"]["sources"][2]
    assert lag["name"] == "lag"
    for part in (
        "semantics.key [241] is missing",
        f"semantics.hints.outer is missing, must be [{len(HINT_LAGS) * CHORDS}, 8]",
        f"semantic.conditions.lag [1, {lag['vocabulary'] + 1}, 32] is missing",
        f"acoustic.heads is [{len(config['network']['acoustic']['delays'])}, 7, 32]",
        "acoustic.segment is not part of this network",
        "semantics.vocal.centroids has 100 entries, [semantics] vocabulary is 241",
    ):
        assert part in message


def test_a_key_profile_of_other_tokens_is_named() -> None:
    config, tensors = tiny_random(layout="aligned")
    tensors["semantics.key"] = torch.zeros(500)
    with pytest.raises(PackError, match=r"semantics.key is \[500\], must be \[241\]"):
        load(config, tensors, "cpu")
