"""All that a session may be told beside its audio, on a model that uses all of it, beside a bystander who plays on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from backline.engine.engine import Engine
from backline.engine.errors import BadInput, ChunkFailed, NotFound, Refused
from backline.engine.events import TextInForce
from backline.engine.limits import PENDING_CODES, PENDING_TEXTS, TEXT_BYTES
from backline.models.stream import Audio, ChunkInput, Input
from tests.support.clock import TurnedClock
from tests.support.everything import CHUNK_FRAMES, CHUNK_SAMPLES, RATE, SIZES, STEPS, EverythingStream
from tests.support.playing import Listener, open_session, running, write_blocks
from tests.support.streams import GainStream

CHUNKS = 6
INPUTS = (Input("voice", 1), Input("band", 2))
NOTE_ON, NOTE_OFF = bytes([0x90, 60, 100]), bytes([0x80, 60, 0])


@pytest.fixture
def stream() -> EverythingStream:
    return EverythingStream()


@pytest.fixture
def engine(stream: EverythingStream) -> Iterator[Engine]:
    with running(clock=TurnedClock(), everything=stream, gain=GainStream(rate=None, channels=None)) as engine:
        stream.prepared.clear()
        stream.stepped_on.clear()
        yield engine


def noise(channels: int = 3, chunks: int = CHUNKS) -> Audio:
    return np.random.default_rng(3).uniform(-0.4, 0.4, (channels, chunks * CHUNK_SAMPLES)).astype(np.float32)


def codes(chunks: int = CHUNKS) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.random.default_rng(4).integers(0, SIZES, (chunks * CHUNK_FRAMES, 2)).astype(np.int32)


def opened(engine: Engine, **changes: Any) -> Any:
    values: dict[str, Any] = {"sample_rate": RATE, "channels": 3, "inputs": INPUTS, **changes}
    return open_session(engine, "everything", **values)


def play(engine: Engine, audio: Audio, **changes: Any) -> Listener:
    session, listener = opened(engine, channels=audio.shape[0], **changes)
    session.write_frames(0, codes())
    write_blocks(session, audio, 1_000)
    session.close_input()
    listener.finished()
    return listener


def at_full(prompt: str) -> np.float32:
    return np.float32(len(prompt) / 100)


# ---- tasks, inputs and steps -------------------------------------------------------------------------


def test_a_chunk_that_takes_steps_is_one_chunk(engine: Engine, stream: EverythingStream) -> None:
    audio = noise()
    listener = play(engine, audio)
    assert listener.finished().totals.chunks == CHUNKS
    np.testing.assert_array_equal(listener.audio(0), audio[1:] + at_full("a rhodes") * audio[:1])
    np.testing.assert_array_equal(listener.audio(1), audio[:1])


def test_between_the_steps_of_one_others_play(engine: Engine, stream: EverythingStream) -> None:
    calls: list[list[int]] = []
    stream.before_step = lambda inputs: calls.append([given.row for given in inputs])
    first, heard_first = opened(engine)
    second, heard_second = opened(engine)
    audio = noise()
    for session in (first, second):
        session.write_frames(0, codes())
    for at in range(0, audio.shape[1], CHUNK_SAMPLES):
        for session in (first, second):
            session.write(at, audio[:, at : at + CHUNK_SAMPLES])
    for session, heard in ((first, heard_first), (second, heard_second)):
        session.close_input()
        heard.finished()
        np.testing.assert_array_equal(heard.audio(1), audio[:1])
    steps = [row for rows in calls for row in rows]
    assert steps.count(0) == steps.count(1) == STEPS * CHUNKS
    # Had the first kept the thread for all of its chunk, the other would not stand between two of its steps.
    assert any(rows == [1] or rows == [0, 1] for rows in calls[1 : STEPS * CHUNKS])


def test_a_session_says_which_of_the_inputs_it_has_and_in_which_order(engine: Engine) -> None:
    audio = noise()
    swapped = play(engine, audio[[1, 2, 0]], inputs=INPUTS[::-1])
    np.testing.assert_array_equal(swapped.audio(1), audio[:1])
    band_alone = play(engine, audio[1:], inputs=INPUTS[1:])
    np.testing.assert_array_equal(band_alone.audio(0), audio[1:])
    mono_band = play(engine, audio[:2], inputs=(INPUTS[0], Input("band", 1)))
    np.testing.assert_array_equal(mono_band.audio(0), np.repeat(audio[1:2], 2, 0) + at_full("a rhodes") * audio[:1])
    unnamed = play(engine, audio[:1], inputs=())
    np.testing.assert_array_equal(unnamed.audio(1), audio[:1])  # the first input


def test_a_model_of_one_input_gets_the_mix_of_all_groups(engine: Engine) -> None:
    session, listener = open_session(engine, "gain", channels=3, inputs=INPUTS)
    audio = noise()
    write_blocks(session, audio, 1_000)
    session.close_input()
    listener.finished()
    np.testing.assert_array_equal(listener.audio(), audio)


def test_a_task_has_its_own_ports_inputs_texts_and_parameters(engine: Engine) -> None:
    audio = noise(1)
    session, listener = opened(engine, channels=1, inputs=(INPUTS[0],), task="hum")
    assert [port.name for port in session.ports] == ["voice"]
    assert (session.config.parameters, session.config.texts) == ({"depth": 1.0}, {})
    with pytest.raises(NotFound, match="no text 'prompt'"):
        session.set_text("prompt", "drums")
    with pytest.raises(NotFound, match="no parameter 'style'"):
        session.control("style", 1.0)
    session.write_frames(0, codes())
    write_blocks(session, audio, 1_000)
    session.close_input()
    listener.finished()
    np.testing.assert_array_equal(listener.audio(), audio)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"task": "polka"}, NotFound, "no task 'polka' in 'everything': .*use play, hum"),
        ({"inputs": (Input("voice", 1), Input("choir", 2))}, NotFound, "no input 'choir'.*use voice, band"),
        ({"inputs": (Input("voice", 1), Input("voice", 2))}, BadInput, "given twice"),
        ({"inputs": (Input("voice", 1),)}, BadInput, "the inputs have 1 channels and the session has 3"),
        ({"inputs": (Input("voice", 3), Input("band", 0))}, BadInput, "at least one"),
        ({"texts": {"lyrics": "la"}}, NotFound, "no text 'lyrics' in 'everything': use prompt"),
        ({"texts": {"prompt": "x" * (TEXT_BYTES + 1)}}, BadInput, "513 bytes long: use at most 512"),
        ({"texts": {"prompt": "ü" * 257}}, BadInput, "514 bytes long"),
        ({"texts": {"prompt": "a\0b"}}, BadInput, "holds a NUL"),
        ({"texts": {"prompt": "impossible"}}, BadInput, "nobody can play that"),
    ],
)
def test_what_no_session_can_be_is_refused(
    engine: Engine, stream: EverythingStream, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        opened(engine, **changes)
    assert not stream.rows


# ---- texts -------------------------------------------------------------------------------------------


def test_a_text_is_prepared_elsewhere_and_heard_at_the_position_that_is_told(
    engine: Engine, stream: EverythingStream
) -> None:
    audio = noise()
    session, listener = opened(engine)
    session.write_frames(0, codes())
    session.set_text("prompt", "drums", 2 * CHUNK_SAMPLES - 10)
    session.set_text("prompt", "drums and a trumpet", 4 * CHUNK_SAMPLES)
    write_blocks(session, audio, 1_000)
    session.close_input()
    listener.finished()
    told = [event for event in listener.events if isinstance(event, TextInForce)]
    assert told == [
        TextInForce("prompt", "drums", 2 * CHUNK_SAMPLES),
        TextInForce("prompt", "drums and a trumpet", 4 * CHUNK_SAMPLES),
    ]
    changes = [(0, "a rhodes"), *((event.position, event.text) for event in told), (audio.shape[1], "")]
    for (start, prompt), (end, _) in pairwise(changes):
        span = slice(start, end)
        expected = audio[1:, span] + at_full(prompt) * audio[:1, span]
        np.testing.assert_array_equal(listener.audio(0)[:, span], expected)
    threads = {thread for _, _, thread in stream.prepared}
    assert not threads & stream.stepped_on
    assert [entry.change for entry in session.take.changes.log if isinstance(entry.change, tuple)] == [
        ("prompt", "drums"),
        ("prompt", "drums and a trumpet"),
    ]


def test_a_text_is_prepared_once(engine: Engine, stream: EverythingStream) -> None:
    for _ in range(2):
        play(engine, noise(), texts={"prompt": "strings"})
    assert [text for _, text, _ in stream.prepared] == ["strings"]


def test_a_live_session_plays_on_while_a_text_is_prepared(engine: Engine, stream: EverythingStream) -> None:
    """The text is in force where it is ready, and its session, like a bystander's, has lost nothing."""
    gate, audio = stream.hold("slow"), noise()
    session, listener = opened(engine, offline=False)
    bystander, heard = opened(engine, offline=False)
    half = 3 * CHUNK_SAMPLES
    for each in (session, bystander):
        each.write_frames(0, codes())
    session.set_text("prompt", "slow")
    for each in (session, bystander):
        write_blocks(each, audio[:, :half], CHUNK_SAMPLES)
    for client in (listener, heard):
        client.wait(lambda client=client: len(client.blocks(1)) == 3)  # type: ignore[misc]
    gate.set()
    assert session._texts is not None
    while session._texts.busy:
        threading.Event().wait(0.001)
    for each, client in ((session, listener), (bystander, heard)):
        write_blocks(each, audio[:, half:], CHUNK_SAMPLES, half)
        each.close_input()
        client.finished()
    (told,) = (event for event in listener.events if isinstance(event, TextInForce))
    assert told == TextInForce("prompt", "slow", half)
    expected = audio[1:] + np.where(np.arange(audio.shape[1]) < half, at_full("a rhodes"), at_full("slow")) * audio[:1]
    np.testing.assert_array_equal(listener.audio(0), expected)
    np.testing.assert_array_equal(heard.audio(0), audio[1:] + at_full("a rhodes") * audio[:1])


def test_a_render_waits_for_its_texts(engine: Engine, stream: EverythingStream) -> None:
    gate = stream.hold("slow")
    session, listener = opened(engine)
    session.write_frames(0, codes())
    session.set_text("prompt", "slow", 0)
    audio = noise()
    write_blocks(session, audio[:, : 2 * CHUNK_SAMPLES], CHUNK_SAMPLES)
    assert not session.ready()
    assert not session.waits_for_client
    gate.set()
    write_blocks(session, audio[:, 2 * CHUNK_SAMPLES :], CHUNK_SAMPLES, 2 * CHUNK_SAMPLES)
    session.close_input()
    listener.finished()
    np.testing.assert_array_equal(listener.audio(0), audio[1:] + at_full("slow") * audio[:1])


def test_a_render_whose_text_comes_amid_a_chunk_goes_on_once_it_is_prepared(
    engine: Engine, stream: EverythingStream
) -> None:
    gate, audio = stream.hold("slow"), noise()
    session, listener = opened(engine)

    def write(inputs: Sequence[ChunkInput]) -> None:
        stream.before_step = lambda inputs: None
        session.set_text("prompt", "slow", CHUNK_SAMPLES)

    stream.before_step = write
    session.write_frames(0, codes())
    write_blocks(session, audio, 1_000)
    session.close_input()
    while stream.waiting == 0 or session._in_call:
        threading.Event().wait(0.001)
    threading.Event().wait(0.02)  # until the engine has found nothing to do
    gate.set()
    listener.finished()
    changed = np.arange(audio.shape[1]) >= CHUNK_SAMPLES
    expected = audio[1:] + np.where(changed, at_full("slow"), at_full("a rhodes")) * audio[:1]
    np.testing.assert_array_equal(listener.audio(0), expected)


@pytest.mark.parametrize(
    ("text", "error"), [("impossible", BadInput), ("broken", ChunkFailed)], ids=["cannot be taken", "encoder fails"]
)
def test_a_text_that_cannot_be_prepared_ends_its_session_alone(
    engine: Engine, stream: EverythingStream, text: str, error: type[Exception]
) -> None:
    def fail(text: str) -> None:
        if text == "broken":
            raise RuntimeError("no encoder")

    stream.before_prepare = fail
    session, listener = opened(engine)
    bystander, heard = opened(engine)
    session.set_text("prompt", text)
    assert isinstance(listener.failed().error, error)
    audio = noise()
    bystander.write_frames(0, codes())
    write_blocks(bystander, audio, 1_000)
    bystander.close_input()
    heard.finished()
    np.testing.assert_array_equal(heard.audio(0), audio[1:] + at_full("a rhodes") * audio[:1])


def test_only_so_many_texts_may_wait(engine: Engine, stream: EverythingStream) -> None:
    gate = stream.hold("slow")
    session, _ = opened(engine)
    session.set_text("prompt", "slow")
    while stream.waiting == 0:
        threading.Event().wait(0.001)
    for number in range(PENDING_TEXTS):
        session.set_text("prompt", f"text {number}")
    with pytest.raises(Refused, match=f"{PENDING_TEXTS} texts wait"):
        session.set_text("prompt", "one more")
    gate.set()


# ---- notes and frames --------------------------------------------------------------------------------


def test_notes_are_heard_at_their_sample(engine: Engine) -> None:
    audio, places = noise(), [0, 7, CHUNK_SAMPLES - 1, CHUNK_SAMPLES, 3 * CHUNK_SAMPLES + 500]
    session, listener = opened(engine)
    session.write_frames(0, codes())
    for place in places:
        session.midi(place, NOTE_ON)
        session.midi(place + 3, NOTE_OFF)
    write_blocks(session, audio, 1_000)
    session.close_input()
    listener.finished()
    expected = audio[1:] + at_full("a rhodes") * audio[:1]
    expected[:, places] += 1.0
    np.testing.assert_array_equal(listener.audio(0), expected)
    assert not listener.warnings("midi_unused")


def test_a_model_that_takes_no_notes_passes_them_over_with_one_warning(engine: Engine) -> None:
    session, listener = open_session(engine, "gain", channels=2)
    for place in range(0, 4_000, 100):
        session.midi(place, NOTE_ON)
    audio = noise(2)
    write_blocks(session, audio, 1_000)
    session.close_input()
    listener.finished()
    np.testing.assert_array_equal(listener.audio(), audio)
    assert [warning.count for warning in listener.warnings("midi_unused")] == [1]


def test_frames_go_in_and_out_in_order(engine: Engine) -> None:
    listener = play(engine, noise())
    given = codes()
    got = np.concatenate([frames.codes for frames in listener.frames()])
    np.testing.assert_array_equal(got, (given + 1) % SIZES)
    assert [frames.first_frame for frames in listener.frames()] == list(range(0, len(given), CHUNK_FRAMES))


def test_a_session_of_tokens_alone_needs_no_audio_and_gets_none(engine: Engine) -> None:
    session, listener = opened(engine, want_audio=False)
    audio, given = noise(), codes()
    for chunk in range(CHUNKS):
        session.write_frames(chunk * CHUNK_FRAMES, given[chunk * CHUNK_FRAMES : (chunk + 1) * CHUNK_FRAMES])
    write_blocks(session, audio, 1_000)
    session.close_input()
    listener.finished()
    assert not listener.blocks()
    np.testing.assert_array_equal(np.concatenate([frames.codes for frames in listener.frames()]), (given + 1) % SIZES)


@pytest.mark.parametrize(
    ("first", "wrong", "said"),
    [
        (1, [[0, 0]], "frame 0 is due"),
        (0, [[0, 0, 0]], "frames of 3 codebooks: this session takes 2"),
        (0, [[8, 0]], "code 8 of codebook 'book0': use 0 to 7"),
        (0, [[0, -1]], "code -1 of codebook 'book1': use 0 to 15"),
    ],
)
def test_frames_that_cannot_be_are_refused(engine: Engine, first: int, wrong: list[list[int]], said: str) -> None:
    session, _ = opened(engine)
    with pytest.raises(BadInput, match=said):
        session.write_frames(first, np.array(wrong, np.int32))


def test_frames_are_bounded_and_for_models_that_take_them(engine: Engine) -> None:
    session, _ = opened(engine)
    many = np.zeros((PENDING_CODES // 2, 2), np.int32)
    session.write_frames(0, many)
    with pytest.raises(Refused, match="would wait"):
        session.write_frames(len(many), many[:1])
    other, _ = open_session(engine, "gain")
    with pytest.raises(BadInput, match="takes no codec frames"):
        other.write_frames(0, many[:1])


def test_a_row_that_fails_in_a_step_ends_alone(engine: Engine, stream: EverythingStream) -> None:
    def fail(inputs: Sequence[ChunkInput]) -> None:
        for given in inputs:
            if given.row == 0 and stream.rows[0].step == 1:
                raise RuntimeError("a layer has failed")

    stream.before_step = fail
    session, listener = opened(engine)
    bystander, heard = opened(engine)
    audio = noise()
    for each in (session, bystander):
        each.write_frames(0, codes())
        write_blocks(each, audio, 1_000)
        each.close_input()
    assert isinstance(listener.failed().error, ChunkFailed)
    heard.finished()
    np.testing.assert_array_equal(heard.audio(1), audio[:1])
