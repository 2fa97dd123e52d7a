"""DuoTok live: its four tasks against what their parts say by themselves, however the session is cut."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from backline.codecs.duotok.config import ROLES
from backline.codecs.duotok.windowed import Asked, Pace
from backline.models.duotok.config import VOCALS
from backline.models.duotok.lm import Cue, Sampling, heard_at, lag_frames
from backline.models.duotok.load import build, describe, load
from backline.models.duotok.stream import DuoStream
from backline.models.errors import NoRowFree, PackError
from backline.models.hafm.band import Backend
from backline.models.stream import ChunkInput, ChunkOutput, RowFailed, SessionConfig, Transport
from tests.support.toy_duo_pack import ENTRIES, LM, RATE, song, toy_pack

FRAME = RATE // 25  # samples
GUARD = 4  # frames
SECONDS = 6.0
PLAYING = Transport(0.0, True, 120.0)


def stream(backend: Backend = "float32", **rest: object) -> DuoStream:
    config, tensors = toy_pack()
    return build({**config, "rows": 3, **rest}, tensors, "cpu", backend, "float32")


def session(task: str, chunk: int = 8, visibility: float = 0.48, seed: int = 3, **rest: object) -> SessionConfig:
    """A chunk of so many frames."""
    return SessionConfig(RATE, 2, Fraction(chunk, 25), visibility, seed, {"steps": 2.0}, task=task, **rest)  # type: ignore[arg-type]


class Played:
    """A session that is played through, as the engine does."""

    def __init__(
        self,
        stream: DuoStream,
        config: SessionConfig,
        sound: np.ndarray,
        frames: np.ndarray | None = None,
        transport: Transport | None = PLAYING,
    ) -> None:
        self.stream, self.config, self.row = stream, config, stream.open(config)
        self.spec = stream.spec.for_task(config.task)
        channels = {"accompany": 1, "render": 0}.get(self.spec.tasks[0].name, 2)
        self.sound, self.given_frames, self.transport = sound[:channels], frames, transport
        self.fed = self.sent = 0
        self.answers: list[ChunkOutput] = []

    def given(self) -> ChunkInput | None:
        """What the next chunk is given; None where the input has ended."""
        needs = max(self.fed, self.stream.required_input(self.row))
        if needs > self.sound.shape[1]:
            return None
        audio = self.sound[:, self.fed : needs]
        codes = None
        if self.given_frames is not None:
            wanted = self.stream.required_frames(self.row)
            if wanted > len(self.given_frames):
                return None
            codes, self.sent = self.given_frames[self.sent : wanted], wanted
        self.fed = needs
        return ChunkInput(self.row, audio, self.transport, self.config.parameters, frames=codes)

    @property
    def frames(self) -> np.ndarray:
        """[frame, track]"""
        expected = 0
        for answer in self.answers:
            assert answer.first_frame == expected
            assert answer.frames is not None
            expected += len(answer.frames)
        return np.concatenate([answer.frames for answer in self.answers if answer.frames is not None])

    def audio(self, port: int = 0) -> np.ndarray:
        """[channel, sample]"""
        expected = 0
        for answer in self.answers:
            assert answer.position == expected
            expected += answer.audio[port].shape[1]
        return np.concatenate([answer.audio[port] for answer in self.answers], axis=1)


def play(stream: DuoStream, sessions: Sequence[Played], together: int = 1) -> None:
    """All to their ends; `together` chunks in turns, so that rows are out of step."""
    going = list(sessions)
    turn = 0
    while going:
        some = [one for number, one in enumerate(going) if (turn + number) % together == 0] or going[:1]
        turn += 1
        inputs = {}
        for one in some:
            given = one.given()
            if given is None:
                going.remove(one)
            else:
                inputs[one] = given
        for one, answer in zip(inputs, stream.step(list(inputs.values())), strict=True):
            assert not isinstance(answer, RowFailed), answer.error
            one.answers.append(answer)


def played(task: str, *, frames: np.ndarray | None = None, sound: np.ndarray | None = None, **rest: object) -> Played:
    stream_ = stream()
    one = Played(stream_, session(task, **rest), song(SECONDS) if sound is None else sound, frames)  # type: ignore[arg-type]
    play(stream_, [one])
    return one


def heard_whole(sound: np.ndarray) -> np.ndarray:
    """[track, frame] by the tokenizer at once."""
    tokenizer = stream().tokenizer
    return np.stack(
        [tokenizer.encode(torch.from_numpy(sound[at : at + 1]), role)[0].numpy() for at, role in enumerate(ROLES)]
    )


def rendered(stream: DuoStream, track: int, tokens: np.ndarray, chunk: int, seed: int) -> np.ndarray:
    """A track by its renderer, hop after hop."""
    renderer = stream.renderers[ROLES[track]]
    state = renderer.begin(Pace(chunk // 2, GUARD // 2, 320), seed + track)
    sounds = []
    at = 0
    while at + renderer.needs(state) <= len(tokens):
        count = renderer.needs(state)
        ((state, sound),) = renderer.step([Asked(0, state, tokens[at : at + count], 2)])
        sounds.append(sound)
        at += count
    return np.concatenate(sounds, axis=1)


@pytest.mark.parametrize("chunk", [2, 8])
def test_tokens_live_are_those_of_the_whole_song(chunk: int) -> None:
    one = played("tokens", chunk=chunk)
    whole = heard_whole(song(SECONDS))
    found = one.frames
    assert len(found) > 0.8 * whole.shape[1]
    np.testing.assert_array_equal(found.T, whole[:, : len(found)])
    assert len(np.unique(found)) > 10
    assert all(sum(part.shape[0] for part in answer.audio) == 0 for answer in one.answers)


def test_resynthesis_is_what_the_renderers_say_of_those_tokens() -> None:
    one = played("resynthesis")
    whole = heard_whole(song(SECONDS))
    np.testing.assert_array_equal(one.frames.T, whole[:, : len(one.frames)])
    for track in range(2):
        expected = rendered(one.stream, track, whole[track], 8, 3)
        sound = one.audio(track)
        assert sound.shape[0] == 2
        np.testing.assert_allclose(sound, expected[:, : sound.shape[1]], atol=1e-5)
        assert np.abs(sound).max() > 1e-3


def test_a_dry_voice_comes_back_as_it_was() -> None:
    stream_ = stream()
    config = session("resynthesis")
    one = Played(stream_, replace(config, parameters={**config.parameters, "dry": 1.0}), song(SECONDS))
    play(stream_, [one])
    voice = one.audio(VOCALS)
    np.testing.assert_array_equal(voice, np.repeat(song(SECONDS)[:1, : voice.shape[1]], 2, axis=0))
    other = played("resynthesis")
    np.testing.assert_allclose(one.audio(1), other.audio(1), atol=1e-6)


def test_frames_that_are_sent_sound_as_they_do_where_they_were_heard() -> None:
    """One machine sings, another renders."""
    there = played("resynthesis")
    here = played("render", frames=there.frames)
    for track in range(2):
        both = here.audio(track), there.audio(track)
        assert both[0].shape[1] > 4 * RATE
        np.testing.assert_array_equal(both[0], both[1][:, : both[0].shape[1]])
    np.testing.assert_array_equal(here.frames, there.frames[: len(here.frames)])


@pytest.mark.parametrize("visibility", [0.48, 1.2, 0.0, -0.6])
@pytest.mark.parametrize("want_audio", [True, False])
def test_a_band_answers_as_the_language_model_does_under_the_whole_voice(visibility: float, want_audio: bool) -> None:
    one = played("accompany", visibility=visibility, want_audio=want_audio)
    voice = heard_whole(song(SECONDS))[VOCALS]
    lm = stream().lm
    assert lm is not None
    lm.reset(0, 3)
    guard = GUARD if want_audio else 0
    lag = Fraction(8 + guard, 25) - Fraction(visibility).limit_denominator(1000)
    frames = len(one.answers) * 8 + guard
    heard = heard_at(voice, 0, frames, lag_frames(lag), ENTRIES)
    cue = Cue(0, frames, heard, Fraction(lag_frames(lag), 25), Sampling(1.0, 12, 0.95), PLAYING)
    (expected,) = lm.accompany([cue])
    assert not isinstance(expected, Exception)
    found = one.frames
    assert len(found) == frames - max(0, lag_frames(lag))  # those of which the voice's token is known, too
    np.testing.assert_array_equal(found[:, 1], expected[: len(found)])
    np.testing.assert_array_equal(found[:, 0], voice[: len(found)])
    if want_audio:
        assert one.spec.ports[0].name == "accompaniment"
        sound = one.audio()
        np.testing.assert_allclose(sound, rendered(one.stream, 1, expected, 8, 3)[:, : sound.shape[1]], atol=1e-5)


def test_rows_out_of_step_play_what_each_plays_alone() -> None:
    kinds = [("accompany", 8, 1), ("resynthesis", 4, 2), ("accompany", 2, 9)]
    alone = [played(task, chunk=chunk, seed=seed) for task, chunk, seed in kinds]
    stream_ = stream()
    rows = [Played(stream_, session(task, chunk=chunk, seed=seed), song(SECONDS)) for task, chunk, seed in kinds]
    with pytest.raises(NoRowFree):
        stream_.open(session("tokens"))
    play(stream_, rows, together=2)
    for one, other in zip(rows, alone, strict=True):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.audio(), other.audio())
    assert not np.array_equal(rows[0].frames[:100, 1], rows[2].frames[:100, 1])


def test_a_row_is_as_large_at_its_end_as_at_its_start() -> None:
    stream_ = stream()
    for task, visibility in (("accompany", 0.48), ("accompany", -0.6), ("resynthesis", 0.48)):
        one = Played(stream_, session(task, visibility=visibility), song(12.0))
        sizes = []
        while (given := one.given()) is not None:
            assert isinstance(stream_.step([given])[0], ChunkOutput)
            sizes.append(stream_.row_bytes(one.row))
        assert sizes[-1] == sizes[6]
        assert sizes[-1].kv == (stream_.lm.kv_bytes() if task == "accompany" and stream_.lm else 0)
        stream_.close(one.row)
    assert stream_.row_bytes(0).other == 0


def test_a_row_that_fails_ends_alone() -> None:
    stream_ = stream()
    good, bad = (Played(stream_, session("render"), song(SECONDS), frames_of(90)) for _ in range(2))
    good.given_frames, bad.given_frames = frames_of(90), frames_of(90)
    first, second = good.given(), bad.given()
    assert first is not None
    assert second is not None
    assert second.frames is not None
    answers = stream_.step([first, replace(second, frames=second.frames + ENTRIES)])
    assert isinstance(answers[0], ChunkOutput)
    assert isinstance(answers[1], RowFailed)
    assert str(ENTRIES) in str(answers[1].error)


def frames_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(ENTRIES, size=(count, 2)).astype(np.int32)


def test_the_ledger_names_what_a_chunk_waits_for() -> None:
    stream_ = stream()
    look_ahead = stream_._pair.delay / 25

    def total(task: str, **rest: object) -> float:
        items = stream_.latency(session(task, **rest))  # type: ignore[arg-type]
        return sum(item.seconds for item in items)

    assert look_ahead > 0
    assert total("tokens") == pytest.approx(look_ahead + 0.32)
    assert total("resynthesis") == pytest.approx(look_ahead + 0.32 + 0.16)
    assert total("render") == pytest.approx(0.32 + 0.16)
    assert total("accompany", visibility=0.5) == pytest.approx(look_ahead + 0.48)  # of a frame by half nothing is heard
    assert total("accompany", visibility=-1.0) == pytest.approx(look_ahead - 1.0)
    assert total("accompany", visibility=0.2, want_audio=False) == pytest.approx(look_ahead + 0.32)


def test_warming_up_needs_no_row_of_a_session() -> None:
    stream_ = stream()
    for _ in range(3):
        stream_.open(session("tokens"))
    for task in ("accompany", "resynthesis", "tokens", "render"):
        assert stream_.warm_up(session(task)) > 0
    assert stream_.resident_bytes() > 0


def test_it_is_described_as_it_is_served_and_without_parts_it_does_less() -> None:
    config, tensors = toy_pack()
    assert describe(config) == load(config, tensors, "cpu").spec
    assert [task.name for task in describe(config).tasks] == ["accompany", "resynthesis", "tokens", "render"]
    for parts, tasks in (((), ["tokens"]), (("lm",), ["accompany", "tokens"])):
        config, tensors = toy_pack(parts)
        spec = load(config, tensors, "cpu").spec
        assert spec == describe(config)
        assert [task.name for task in spec.tasks] == tasks
        assert not spec.ports
        assert not spec.takes


def test_all_that_is_wrong_with_a_pack_is_named() -> None:
    config, tensors = toy_pack()
    with pytest.raises(PackError) as caught:
        describe({**config, "lm": {**config["lm"], "entries": 7}, "stream": {"chunk_seconds": "1/25"}})
    assert "[lm] knows 7 tokens" in str(caught.value)
    assert "chunk_seconds is 1/25 s: use a multiple of 2/25 s" in str(caught.value)
    for fade in ("0", "3/25"):
        with pytest.raises(PackError, match=f"fade_seconds is {fade} s: use more than 0, and 2/25 at most"):
            describe({**config, "stream": {**config["stream"], "fade_seconds": fade}})
    with pytest.raises(PackError, match="belong together"):
        describe({name: table for name, table in config.items() if name != "vae"})
    with pytest.raises(PackError, match="lacks"):
        describe({name: table for name, table in config.items() if name != "tokenizer"})
    missing = {name: tensor for name, tensor in tensors.items() if not name.startswith(("lm.enter", "renderer.vocals"))}
    with pytest.raises(PackError) as caught:
        load(config, missing, "cpu")
    assert "lm.enter" in str(caught.value)
    assert "no renderer of the vocals" in str(caught.value)


def test_the_papers_layout_is_no_live_band() -> None:
    config, _ = toy_pack()
    with pytest.raises(PackError, match="cannot play live"):
        describe({**config, "lm": replace(LM, layout="paper", beats=False).to_table()})
