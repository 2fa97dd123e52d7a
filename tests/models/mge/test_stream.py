"""MGE-LDM as a stream: it gives what the whole file gives, by every task, and a text that changes is obeyed in time."""

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt
from torch import Tensor

from backline.engine.session import Session
from backline.models.mge import stream as streaming
from backline.models.mge.load import Parts, build, read_parts, tiny_random
from backline.models.mge.offline import OfflinePlayer, Sampling
from backline.models.mge.stream import MgeStream, Spoken
from backline.models.mge.tasks import MIXTURE, PORTS, SOURCE, SUBMIXTURE
from backline.models.mge.words import LABELS
from backline.models.stream import Audio, ChunkInput, ChunkOutput, RowFailed, SessionConfig
from backline.models.windowed.consistency import OFF
from backline.models.windowed.settings import make_finish
from backline.models.windowed.windows import Windows
from tests.support.playing import open_session, play, running, settle, write_blocks

RATE, FRAME = 48_000, 3_840
CHUNK, GUARD = Fraction(4, 25), Fraction(2, 25)
HOP = int(CHUNK * RATE)
WINDOWS = Windows(8 * FRAME, HOP, FRAME, RATE // 25, FRAME)
CUT: dict[str, Any] = {"sample_rate": RATE, "chunk_seconds": CHUNK, "visibility_seconds": float(CHUNK + GUARD)}
LONG: dict[str, Any] = {"chunk_seconds": 2 * CHUNK, "visibility_seconds": float(2 * CHUNK + GUARD)}
PAPER_LIKE = {"norm": "group", "time": "token"}
BASS, DRUMS = {"texts": {"query": "bass"}}, {"texts": {"query": "drums"}}


def parts(**changes: Any) -> Parts:
    return read_parts(*tiny_random(**changes))


def make_stream(**changes: Any) -> MgeStream:
    return build(*tiny_random(**changes), "cpu", "float32")


def obedient() -> MgeStream:
    """One whose random weights make much of what they are asked."""
    stream = make_stream()
    embed = stream.reader.embed
    stream.reader.embed = lambda text: 100 * embed(text)  # type: ignore[method-assign]
    return stream


def music(samples: int, channels: int = 2, seed: int = 0) -> Audio:
    """Noise in bursts, another in every channel, and a pause in which nothing sounds, longer than a window."""
    draw, at = np.random.default_rng(seed), np.arange(samples) / RATE
    audio = 0.2 * draw.standard_normal((channels, samples)) * np.exp(-8 * (at % 0.37))
    audio[:, int(1.2 * RATE) : int(2.3 * RATE)] = 0
    return audio.astype(np.float32)


def streamed(stream: MgeStream, audio: Audio, task: str = "extract", **changes: Any) -> Audio:
    """[port, channel, sample] of a render through an engine."""
    with running(mge=stream) as engine:
        heard = play(engine, "mge", audio, 5_000, task=task, **{**CUT, **BASS, **changes})
    return np.stack([heard.audio(port) for port in range(len(PORTS[task]))])


@pytest.mark.parametrize(
    ("task", "parameters", "changes"),
    [
        ("extract", {}, {}),
        ("extract", {"steps": 3, "guidance": 2.0, "consistency": 1}, {}),
        ("extract", {"consistency": 0}, PAPER_LIKE),
        ("impute", {"steps": 2, "gain": 0.5}, {}),
        ("accompany", {"steps": 2, "guidance": 1.0}, {}),
        ("generate", {"steps": 2}, {}),
        ("generate", {"steps": 2, "guidance": 1.0}, PAPER_LIKE),
    ],
)
def test_the_stream_gives_what_the_whole_file_gives(
    task: str, parameters: dict[str, float], changes: dict[str, Any]
) -> None:
    audio = music(4 * RATE + 123)
    found = streamed(make_stream(**changes), audio, task, parameters=parameters, seed=3)
    made = parts(**changes)
    steps = int(parameters.get("steps", 1))
    guidance = parameters.get("guidance", 1.0 if task == "extract" else 2.0)
    finish = make_finish(streaming.MgeSettings(), parameters)
    player = OfflinePlayer(made.network, made.vae, made.reader)
    expected = player.in_windows(
        task, audio, "bass", WINDOWS, Sampling(steps, guidance, seed=3), finish, parameters.get("gain", 1.0)
    )
    assert found.shape == expected.shape == (len(PORTS[task]), 2, 4 * RATE + 123)
    assert np.abs(expected).max(axis=(1, 2)).min() > 0.02, "every port has something to compare"
    assert np.abs(found - expected).max() < 1e-5


def test_in_bfloat16_it_is_nearly_the_same() -> None:
    audio, made = music(RATE), parts()
    finish = make_finish(streaming.MgeSettings(), {})
    player = OfflinePlayer(made.network, made.vae, made.reader)
    expected = player.in_windows("extract", audio, "bass", WINDOWS, Sampling(1, seed=3), finish)
    found = streamed(build(*tiny_random(), "cpu", "bfloat16"), audio, seed=3)
    assert 0 < np.abs(found - expected).max() < 5e-3


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("rate", [48_000, 44_100])
def test_source_and_rest_are_the_song_and_keep_its_stereo(rate: int, mode: int) -> None:
    low = butter(6, 8_000, fs=rate, output="sos")  # what resamplers let through
    audio = sosfilt(low, music(2 * rate)).astype(np.float32)
    audio[1] *= 0.1
    source, rest = streamed(make_stream(), audio, sample_rate=rate, parameters={"consistency": mode})
    middle = slice(1_000, -1_000)  # at the ends, resamplers hear the silence outside
    error = (source + rest - audio)[:, middle]
    assert 10 * np.log10((error**2).mean() / (audio**2).mean()) < -60
    assert min(np.abs(source).max(), np.abs(rest).max()) > 0.02
    if mode == 2:
        alone = np.stack([audio[0], 0 * audio[0]])
        assert not streamed(make_stream(), alone, sample_rate=rate)[:, 1].any(), "nothing where nothing is"


def test_without_consistency_it_is_what_the_vae_decodes() -> None:
    """The paper's way: mono, and it need not sum to the song."""
    audio = music(RATE)
    source, rest = streamed(make_stream(), audio, parameters={"consistency": OFF})
    for each in (source, rest):
        np.testing.assert_array_equal(each[0], each[1])
    assert np.abs(source + rest - audio).max() > 0.05


def watched(stream: MgeStream) -> list[tuple[Tensor, Tensor]]:
    """Times and conditions of every call of the network that follows."""
    calls: list[tuple[Tensor, Tensor]] = []
    stream.answerer.network.register_forward_pre_hook(
        lambda module, given: calls.append((given[1].clone(), given[2].clone()))
    )
    return calls


@pytest.mark.parametrize("task", ["extract", "impute", "accompany"])
def test_digital_silence_costs_nothing_and_is_silent(task: str) -> None:
    stream, silence = make_stream(), np.zeros((2, RATE), np.float32)
    with running(mge=stream) as engine:
        calls = watched(stream)
        heard = play(engine, "mge", silence, 5_000, task=task, **CUT, **BASS)
        assert not calls
    for port in range(len(PORTS[task])):
        np.testing.assert_array_equal(heard.audio(port), silence)


def test_a_song_is_made_in_silence() -> None:
    assert np.abs(streamed(make_stream(), np.zeros((1, RATE), np.float32), "generate")).max() > 0.02


def test_steps_and_guidance_are_the_tasks_own_unless_a_session_says() -> None:
    audio = music(RATE)
    for task, parameters, wanted in [
        ("extract", {}, [1]), ("extract", {"steps": 3}, [1, 1, 1]), ("extract", {"guidance": 2.0}, [2]),
        ("impute", {}, [2] * 8), ("impute", {"steps": 1, "guidance": 1.0}, [1]),
    ]:  # fmt: skip
        stream = make_stream()
        calls = watched(stream)
        feed(stream, stream.open(session(task)), audio, stream.prepare("query", "bass"), parameters)
        assert [len(times) for times, _ in calls] == wanted, (task, parameters)


def session(task: str = "extract", **changes: Any) -> SessionConfig:
    return replace(SessionConfig(RATE, 2, CHUNK, float(CHUNK + GUARD), seed=1, task=task), **changes)


def feed(
    stream: MgeStream, row: int, audio: Audio, prompt: Tensor, parameters: Mapping[str, float] = {}
) -> list[ChunkOutput | RowFailed]:
    """The next chunk of a row of a song that all hear."""
    state = stream._rows[row]
    fed = state.windows.end(state.chunk - 1) if state.chunk else 0
    given = audio[:, fed : stream.required_input(row)]
    return list(stream.step([ChunkInput(row, given, None, parameters, {"query": prompt})]))


@pytest.mark.parametrize("text", ["", " \n", "?!", "\N{GUITAR}" * 128])
def test_what_asks_for_nothing_is_the_dropped_condition(text: str) -> None:
    """512 bytes of emoji among it."""
    stream = make_stream()
    prompt = stream.prepare("query", text)
    assert prompt.shape == (8,)
    assert not prompt.any()
    calls = watched(stream)
    audio = music(RATE)
    row, other = stream.open(session()), stream.open(session())
    (answer,) = feed(stream, row, audio, prompt)
    (untold,) = stream.step([ChunkInput(other, audio[:, : stream.required_input(other)], None, {})])
    assert isinstance(answer, ChunkOutput)
    assert isinstance(untold, ChunkOutput)
    assert not any(condition.any() for _, condition in calls)
    np.testing.assert_array_equal(answer.audio, untold.audio)
    (asked,) = feed(stream, stream.open(session()), audio, stream.prepare("query", "bass"))
    assert isinstance(asked, ChunkOutput)
    assert np.abs(np.stack(asked.audio) - np.stack(answer.audio)).max() > 1e-3


@pytest.mark.parametrize("text", ["a theremin that is not there", "\N{FIRE}" * 127 + "bass", "x" * 512])
def test_whatever_is_asked_for_nothing_comes_that_is_not_in_the_song(text: str) -> None:
    audio = music(RATE)
    source, rest = streamed(make_stream(), audio, texts={"query": text})
    assert np.abs(source + rest - audio).max() < 1e-5


def test_texts_are_read_one_at_a_time_wherever_they_come_from() -> None:
    stream = make_stream()
    reading: list[int] = []
    together: list[int] = []
    embed = stream.reader.embed

    def slow(text: str) -> Tensor:
        reading.append(1)
        together.append(len(reading))
        time.sleep(0.01)
        reading.pop()
        return embed(text)

    stream.reader.embed = slow  # type: ignore[method-assign]
    threads = [threading.Thread(target=stream.prepare, args=("query", f"text {number}")) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 4


def test_another_question_lets_go_of_the_past_for_one_chunk() -> None:
    stream = make_stream()
    calls = watched(stream)
    row, audio = stream.open(session("impute")), music(3 * RATE)
    audio += 0.01  # without a pause
    bass, drums = (stream.prepare("query", text) for text in ("bass", "drums"))
    for prompt in (bass, drums, drums, drums, bass, bass):
        feed(stream, row, audio, prompt, {"steps": 1, "guidance": 1.0})
    noisy = [times[0, SOURCE].gt(0).sum().item() for times, _ in calls]
    # Chunk and guard are 3 of 8 frames. The second chunk's window begins before the session, with 3 frames of silence.
    assert noisy == [3, 5, 3, 3, 8, 3]
    assert all(times[0, MIXTURE].equal(times[0, SOURCE]) for times, _ in calls)
    assert not any(times[0, SUBMIXTURE].any() for times, _ in calls), "the band is given"
    for (_, condition), prompt in zip(calls, (bass, drums, drums, drums, bass, bass), strict=True):
        assert condition[0, SOURCE].equal(prompt)


def test_what_is_taken_out_of_a_song_is_told_anew_by_each_chunk() -> None:
    """So a rest that was silent before the session, or while one instrument was alone, cannot stay so."""
    stream = make_stream()
    calls = watched(stream)
    row, audio = stream.open(session()), music(3 * RATE) + np.float32(0.01)
    for _ in range(5):
        feed(stream, row, audio, stream.prepare("query", "bass"))
    # Of the 8 frames of a window, before the session was silence.
    assert [times[0, SOURCE].gt(0).sum().item() for times, _ in calls] == [3, 5, 7, 8, 8]
    assert all(times[0, SUBMIXTURE].equal(times[0, SOURCE]) for times, _ in calls)
    assert not any(times[0, MIXTURE].any() for times, _ in calls), "the song is given"


@pytest.mark.parametrize("task", ["extract", "impute"])
def test_a_text_is_in_force_from_the_first_chunk_that_starts_at_or_after_its_position(task: str) -> None:
    audio = music(2 * RATE, seed=1)
    audio += 0.01
    parameters = {"steps": 1}
    plain = streamed(obedient(), audio, task, parameters=parameters)
    with running(mge=obedient()) as engine:
        playing, heard = open_session(engine, "mge", 5_000, task=task, parameters=parameters, **CUT, **BASS)
        playing.set_text("query", "drums", 4 * HOP - 10)
        write_blocks(playing, audio, 5_000)
        playing.close_input()
        heard.finished()
    changed = np.stack([heard.audio(port) for port in range(len(PORTS[task]))])
    difference = np.abs(changed - plain).max(axis=(0, 1))
    assert not difference[: 4 * HOP].any()
    assert difference[4 * HOP + 2_000 : 5 * HOP].max() > 1e-3
    assert difference[4 * HOP : 4 * HOP + 20].max() < 0.1 * difference.max(), "it is faded in"


def test_a_text_changed_live_is_heard_within_a_chunk_its_guard_and_a_fifth_of_a_second() -> None:
    """From the sample that is being recorded when it is typed, to when the first that obeys it is due to be played."""
    audio, typed = music(3 * RATE, seed=1) + np.float32(0.01), 5 * HOP // 2
    with running(mge=obedient()) as engine:
        playing, heard = open_session(engine, "mge", 4_800, offline=False, **CUT, **BASS)
        write_blocks(playing, audio[:, :typed], 480)
        settle(engine)
        playing.set_text("query", "drums")
        prepared(playing)
        for at in range(typed, audio.shape[1], 480):
            playing.write(at, audio[:, at : at + 480])
        playing.close_input()
        heard.finished()
        latency = sum(item.seconds for item in playing.ledger.items if item.name in {"front_end", "visibility"})
    changed, plain = np.stack([heard.audio(port) for port in range(2)]), streamed(obedient(), audio)
    first = int(np.flatnonzero(np.abs(changed - plain).max(axis=(0, 1)) > 1e-6)[0])
    waited = first / RATE + latency - typed / RATE  # and what the machine computes in
    assert latency == pytest.approx(float(CHUNK + GUARD))
    assert 0 < waited <= float(CHUNK) + 0.01


def prepared(playing: Session) -> None:
    """Waits until the session's texts are."""
    assert playing._texts is not None
    while playing._texts.busy:
        threading.Event().wait(0.001)


def test_a_live_session_gives_what_a_render_of_the_same_events_gives() -> None:
    audio = music(3 * RATE)
    played = []
    for offline in (True, False):
        with running(mge=obedient()) as engine:
            playing, heard = open_session(engine, "mge", 5_000, offline=offline, **CUT, **BASS)
            playing.set_text("query", "drums", 3 * HOP)
            playing.control("steps", 2.0, 5 * HOP)
            playing.control("morph", 0.5, 6 * HOP)
            playing.set_text("query", "the piano", 7 * HOP)
            prepared(playing)
            write_blocks(playing, audio, 5_000 if offline else 480)
            playing.close_input()
            heard.finished()
        played.append([heard.audio(port) for port in range(2)])
    np.testing.assert_array_equal(*played)


def test_a_seed_says_what_is_made_and_gain_how_loud() -> None:
    audio = music(RATE)
    one, again, other = (streamed(obedient(), audio, "impute", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3
    half = streamed(obedient(), audio, "impute", seed=1, parameters={"gain": 0.5})
    np.testing.assert_allclose(half, 0.5 * one, atol=1e-6)


def test_a_question_may_change_by_and_by() -> None:
    first, second, third = torch.eye(3)
    spoken, other = Spoken.first(first).then(first, 0.0, 0.5)
    assert (spoken.at.equal(first), other) == (True, False)
    spoken, other = spoken.then(second, 2.0, 0.5)
    assert not other
    torch.testing.assert_close(spoken.at, 0.75 * first + 0.25 * second)
    spoken, other = spoken.then(second, 2.0, 0.5)
    torch.testing.assert_close(spoken.at, 0.5 * first + 0.5 * second)
    changed, other = spoken.then(third, 0.0, 0.5)
    assert (changed.at.equal(third), other) == (True, True)
    for share in (0.75, 1.0, 1.0):
        spoken, other = spoken.then(second, 2.0, 0.5)
        torch.testing.assert_close(spoken.at, (1 - share) * first + share * second)
        assert not other


def test_a_morph_keeps_the_past_and_asks_for_what_lies_between() -> None:
    stream = make_stream()
    calls = watched(stream)
    row, audio = stream.open(session("impute")), music(3 * RATE) + np.float32(0.01)
    bass, drums = (stream.prepare("query", text) for text in ("bass", "drums"))
    for prompt in (bass, drums, drums, drums):
        feed(stream, row, audio, prompt, {"morph": 2 * float(CHUNK), "steps": 1, "guidance": 1.0})
    assert [times[0, SOURCE].gt(0).sum().item() for times, _ in calls] == [3] * 4
    torch.testing.assert_close(calls[1][1][0, SOURCE], 0.5 * (bass + drums))
    assert calls[2][1][0, SOURCE].equal(drums)


def test_rows_are_independent_and_one_that_fails_ends_alone() -> None:
    stream, audio = make_stream(), music(RATE)
    configs = [session(), session("impute", seed=2), session("generate", chunk_seconds=2 * GUARD), session(seed=5)]
    prompts = [stream.prepare("query", text) for text in ("bass", "drums", "", "piano")]
    prompts[3] = torch.zeros(3)  # no prompt of this model
    rows = [stream.open(config) for config in configs]
    inputs = [
        ChunkInput(row, audio[:, : stream.required_input(row)], None, {}, {"query": prompt})
        for row, prompt in zip(rows, prompts, strict=True)
    ]
    answers = stream.step(inputs)
    assert isinstance(answers[3], RowFailed)
    for config, given, answer in zip(configs[:3], inputs, answers, strict=False):
        alone = make_stream()
        (expected,) = alone.step([replace(given, row=alone.open(config))])
        assert isinstance(answer, ChunkOutput)
        assert isinstance(expected, ChunkOutput)
        np.testing.assert_array_equal(answer.audio, expected.audio)


@pytest.mark.parametrize("changes", [{}, PAPER_LIKE], ids=["streamed", "paper"])
def test_rows_that_share_calls_as_on_a_gpu_play_the_same(changes: dict[str, Any]) -> None:
    audio = music(2 * RATE) + np.float32(0.01)
    heard = []
    for batches in (False, True):
        stream = make_stream(**changes)
        stream.answerer.batches = batches
        calls = watched(stream)
        texts = ("bass", "drums", "a piano", "bass")
        rows = [
            stream.open(session(task, seed=seed))
            for seed, task in enumerate(("extract", "impute", "extract", "impute"))
        ]
        for chunk in range(4):
            end, start = WINDOWS.end(chunk), WINDOWS.end(chunk - 1) if chunk else 0
            prompts = [stream.prepare("query", "strings" if (row, chunk) == (1, 2) else texts[row]) for row in rows]
            answers = stream.step(
                [ChunkInput(row, audio[:, start:end], None, {"steps": 1, "guidance": 1.0}, {"query": prompt})
                 for row, prompt in zip(rows, prompts, strict=True)]
            )  # fmt: skip
            heard.append([np.stack(answer.audio) for answer in answers if isinstance(answer, ChunkOutput)])
    assert sorted(len(times) for times, _ in calls) == ([1, 1, 2, 2, 3, 3, 4] if changes else [4, 4, 4, 4])
    for apart, together in zip(heard[:4], heard[4:], strict=True):
        assert len(apart) == len(together) == 4
        for one, other in zip(apart, together, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_where_the_model_itself_fails_no_row_has_moved() -> None:
    stream, audio = make_stream(), music(RATE)
    row, prompt = stream.open(session()), stream.prepare("query", "bass")
    working = stream.answerer.answer
    stream.answerer.answer = lambda windows: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        feed(stream, row, audio, prompt)
    stream.answerer.answer = working  # type: ignore[method-assign]
    fresh = make_stream()
    fresh.open(session())
    (found,), (expected,) = feed(stream, row, audio, prompt), feed(fresh, 0, audio, prompt)
    np.testing.assert_array_equal(found.audio, expected.audio)  # type: ignore[union-attr]


def test_a_row_does_not_grow() -> None:
    stream, audio = make_stream(), music(8 * RATE) + np.float32(0.01)
    weights = stream.resident_bytes()
    row, prompt = stream.open(session()), stream.prepare("query", "bass")
    feed(stream, row, audio, prompt)
    size = stream.row_bytes(row).other
    for _ in range(40):
        feed(stream, row, audio, prompt)
        assert stream.row_bytes(row).other == size
    assert stream.resident_bytes() == weights + size
    stream.close(row)
    assert stream.resident_bytes() == weights > 4 * sum(p.numel() for p in stream.answerer.network.parameters())


@pytest.mark.parametrize(
    ("chunk", "visibility", "guard"), [(CHUNK, 0.24, 0.08), (Fraction(2, 25), None, 0.08), (Fraction(8, 25), 0.1, 0.08)]
)
def test_the_latency_is_the_chunk_and_its_guard(chunk: Fraction, visibility: float | None, guard: float) -> None:
    stream = make_stream()
    asked = stream.spec.visibility(chunk) if visibility is None else visibility
    made = session(chunk_seconds=chunk, visibility_seconds=asked)
    items = {item.name: item.seconds for item in stream.latency(made)}
    assert sum(items.values()) == pytest.approx(float(chunk) + guard)
    assert stream.required_input(stream.open(made)) == round((float(chunk) + guard) * RATE)


def test_warming_up_measures_and_leaves_nothing_behind() -> None:
    stream = make_stream()
    before = stream.resident_bytes()
    assert stream.warm_up(session(texts={"query": "bass"})) > 0
    assert stream.resident_bytes() == before
    assert [stream.open(session()) for _ in range(stream.capacity)] == list(range(8))
    with pytest.raises(RuntimeError, match="all 8 rows"):
        stream.open(session())


def test_every_label_is_suggested_once() -> None:
    found = streaming.suggestions()
    assert found[:4] == ("vocals", "drums", "bass", "keys")
    assert sorted(found) == sorted(LABELS)


def test_samples_that_no_recording_has_are_forgotten_with_their_window() -> None:
    stream, audio = make_stream(), music(3 * RATE) + np.float32(0.01)
    audio[:, 10_000:10_010] = 3e38
    row, prompt = stream.open(session()), stream.prepare("query", "bass")
    with np.errstate(all="ignore"):
        answers = [answer for _ in range(14) for answer in feed(stream, row, audio, prompt)]
    finite = [all(np.isfinite(port).all() for port in answer.audio) for answer in answers]  # type: ignore[union-attr]
    assert not finite[0]
    assert all(finite[-5:])


@pytest.mark.slow
def test_two_minutes_in_memory_that_does_not_grow() -> None:
    audio, stream = music(30 * RATE, channels=1), make_stream()
    with running(mge=stream) as engine:
        playing, heard = open_session(engine, "mge", 48_000, channels=1, **{**CUT, **LONG}, **BASS)
        sizes = []
        for number in range(4):
            write_blocks(playing, audio, 48_000, number * audio.shape[1])
            sizes.append(stream.resident_bytes())
        playing.close_input()
        heard.finished()
    assert len(set(sizes)) == 1
    total = heard.audio(0) + heard.audio(1)
    assert np.abs(total - np.tile(audio, 4)).max() < 1e-5
