"""The sound card: which device plays at which rate and channels, and the callback that lets it turn a host.

The callback belongs to the card's own thread and has a block's time, some 5 ms. It prints nothing, writes nothing and
waits for nobody: what it notices it counts, and the main thread tells it.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from backline.cli.arrival import Arrival, arrivals
from backline.cli.audio_files import SERVED_RATES, with_channels
from backline.cli.console import UserError, error_console, labelled
from backline.cli.paced import Turning
from backline.sound_files import Audio
from backline_client import BacklineError

RATES = (48_000, 44_100, 96_000, 88_200, 192_000, 176_400, 32_000, 22_050, 16_000, 8_000)  # Hz, that cards may have
MOST_CHANNELS = 2  # that are opened unasked: "default" devices claim 128
LOOK_SECONDS = 0.05  # between the main thread's looks
TELL_SECONDS = 1.0  # between its words about dropouts
STILL_SECONDS = 2.0  # without a block, after which a card counts as gone
LONGEST_CARD_SECONDS = 1.0  # that a card may hold back, on its way in or out
SWITCH_SECONDS = 0.0005  # after which Python's lock goes to a waiting callback; its usual 5 ms are a whole block
LIST = "see `backline live --list-devices`"
WITHOUT_CARD = "or do without a sound card: backline live --input FILE --output FILE"


@dataclass(frozen=True)
class Card:
    """The devices that are played through, and how."""

    sounddevice: Any  # the package
    speakers: int
    output_channels: int
    rate: int
    microphone: int | None = None  # None: a file is played, and nothing captured
    input_channels: tuple[int, ...] = ()  # that are heard, from 0

    @property
    def captured_channels(self) -> int:
        """That the device is opened with: up to the last that is heard."""
        return max(self.input_channels, default=-1) + 1


@dataclass
class Played:
    """What the card's thread notes for the main thread."""

    blocks: int = 0  # callbacks so far
    arrivals: deque[Arrival] = field(default_factory=arrivals)  # of the newest blocks
    dropouts: int = 0  # callbacks that the card said it had lost samples around
    over: bool = False  # the callback has ended the stream itself
    lost: BacklineError | None = None  # the server; the card plays on without it
    failure: Exception | None = None  # of the callback


def find_card(
    sounddevice: Any,
    devices: tuple[str | None, str | None],
    rate: int | None,
    preferred: int,
    heard: list[int] | None,
    listens: bool,
) -> Card:
    """The card that was asked for, at a rate that it has.

    Args:
        sounddevice: the package.
        devices: numbers or parts of the names of the microphone and the speakers; None: the system's own.
        rate: Hz that it must have; None: `preferred`, or what the card has.
        preferred: Hz.
        heard: inputs of the microphone's device, from 1; None: the first two, or the one that there is.
        listens: whether there is a microphone at all.

    Raises:
        UserError: there is no such device, or it lacks the inputs or the rate; the message says what there is.
    """
    speakers = _device(sounddevice, devices[1], "output")
    output = {"device": speakers["index"], "channels": min(MOST_CHANNELS, speakers["max_output_channels"])}
    checks = [(sounddevice.check_output_settings, output, speakers)]
    channels: tuple[int, ...] = ()
    microphone = None
    if listens:
        microphone = _device(sounddevice, devices[0], "input")
        channels = _inputs(microphone, heard)
        captured = {"device": microphone["index"], "channels": max(channels) + 1}
        checks.append((sounddevice.check_input_settings, captured, microphone))

    def refusal(wanted: int) -> tuple[str, Exception] | None:
        """The name of the device that will not play at this rate, and what it said."""
        for check, shape, device in checks:
            try:
                check(samplerate=wanted, dtype="float32", **shape)
            except (sounddevice.PortAudioError, ValueError) as error:
                return device["name"], error
        return None

    own = [round(device["default_samplerate"]) for _, _, device in checks]
    wanted = preferred if rate is None else rate
    refused = refusal(wanted)
    if refused is not None:
        lowest, highest = SERVED_RATES
        works = [each for each in dict.fromkeys([*own, *RATES]) if lowest <= each <= highest and refusal(each) is None]
        name, said = refused
        if not works:
            raise UserError(f"{name} does not open ({_one_line(said)}): is another program using it? Else {LIST}")
        if rate is not None:
            raise UserError(f"{name} has no {rate} Hz: use --rate {' or '.join(map(str, sorted(works)))}")
        wanted = works[0]
    return Card(
        sounddevice, speakers["index"], output["channels"], wanted,
        microphone=None if microphone is None else microphone["index"], input_channels=channels,
    )  # fmt: skip


def play_on_card(
    card: Card,
    host: Turning,
    audio: Audio | None,
    block: int,
    hear: Callable[[dict[str, Audio]], Audio],
    played: Played,
) -> None:
    """Lets the card turn the host, until `audio` [channel, sample] is over; None: from the microphone, no end.

    A server that goes away does not stop it: what is heard then is what `hear` makes of silence and the input.

    Args:
        card: from `find_card`.
        host: around a session at the card's rate.
        audio: what is sent in place of the microphone.
        block: samples at a time.
        hear: turns what is heard per port into what the speakers play [2, sample]; called by the card's thread, which
            it must not keep waiting.
        played: takes what there is to tell, however this ends.

    Raises:
        UserError: the card does not open, or was lost.
        KeyboardInterrupt: the user has had enough.
    """
    done = threading.Event()
    stream = _open(card, _callback(card, host, audio, hear, played), block, done)
    try:
        with _room_for_the_callback():
            try:
                stream.start()
            except card.sounddevice.PortAudioError as error:
                raise UserError(f"the sound card does not start ({_one_line(error)}): {LIST}") from error
            try:
                _watch(played, done)
            finally:
                stream.abort()
    finally:
        stream.close()
    if played.failure is not None:
        raise played.failure


@contextmanager
def _room_for_the_callback() -> Iterator[None]:
    """Python gives its lock to a waiting callback at once, and no collection of garbage walks through all there is."""
    switch = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(switch)


def _callback(
    card: Card, host: Turning, audio: Audio | None, hear: Callable[[dict[str, Audio]], Audio], played: Played
) -> Callable[..., None]:
    """What the card's thread calls for each block."""
    stop = card.sounddevice.CallbackStop
    inputs = list(card.input_channels)
    position = 0

    def turn(captured: Any, speakers: Any, frames: int, times: Any, status: Any) -> None:
        nonlocal position
        now = time.monotonic()
        played.blocks += 1
        if status and not getattr(status, "priming_output", False):
            played.dropouts += 1
        try:
            speakers[:] = 0.0
            taken = captured.T[inputs] if audio is None else audio[:, position : position + frames]
            position += taken.shape[1]
            played.arrivals.append(Arrival(*_moments(times, now, frames / card.rate, audio is None), position))
            if taken.shape[1]:
                sound = with_channels(hear(_turned(host, taken, played)), speakers.shape[1])
                speakers[: sound.shape[1]] = sound.T
        except Exception as error:  # it would vanish in this thread: `play_on_card` raises it
            played.failure = error
            played.over = True
            raise stop from error
        if audio is not None and position >= audio.shape[1]:
            played.over = True
            raise stop

    return turn


def _moments(times: Any, now: float, block_seconds: float, captures: bool) -> tuple[float, float]:
    """When a block's last sample was captured, and how much later what is played along with it is heard.

    By the card's own times, where it tells any: some host systems give zeros, or times of another clock.
    """
    current = getattr(times, "currentTime", 0.0)
    age = current - getattr(times, "inputBufferAdcTime", 0.0) - block_seconds if captures and current else 0.0
    age = age if 0.0 < age < LONGEST_CARD_SECONDS else 0.0
    heard_in = getattr(times, "outputBufferDacTime", 0.0) - current
    heard_in = heard_in if 0.0 < heard_in < LONGEST_CARD_SECONDS else 0.0
    return now - age, age + heard_in + block_seconds


def _turned(host: Turning, taken: Audio, played: Played) -> dict[str, Audio]:
    """What is heard while this block is captured, with the server or without it."""
    if played.lost is None:
        try:
            return host.turn(taken)
        except BacklineError as error:
            played.lost = error
    return host.turn_alone(taken)


def _open(card: Card, callback: Callable[..., None], block: int, done: threading.Event) -> Any:
    shape = {
        "samplerate": card.rate, "blocksize": block, "dtype": "float32", "finished_callback": done.set,
    }  # fmt: skip
    try:
        if card.microphone is None:
            return card.sounddevice.OutputStream(
                device=card.speakers, channels=card.output_channels,
                callback=lambda *arguments: callback(None, *arguments), **shape,
            )  # fmt: skip
        devices, channels = (card.microphone, card.speakers), (card.captured_channels, card.output_channels)
        return card.sounddevice.Stream(device=devices, channels=channels, callback=callback, **shape)
    except (card.sounddevice.PortAudioError, ValueError) as error:
        raise UserError(f"the sound card does not open ({_one_line(error)}): {LIST}") from error


def _watch(played: Played, done: threading.Event) -> None:
    """Tells what the card's thread has noted, until that has ended."""
    dropouts = blocks = 0
    told_at = moved_at = time.monotonic()
    told_lost = False
    while not done.wait(LOOK_SECONDS):  # in steps, so that Ctrl+C is noticed
        now = time.monotonic()
        if played.dropouts > dropouts and now - told_at >= TELL_SECONDS:
            text = f"{played.dropouts - dropouts} dropouts: close other programs, or use a larger --block"
            error_console.print(labelled("sound card", text, "yellow"), soft_wrap=True)
            dropouts, told_at = played.dropouts, now
        if played.lost is not None and not told_lost:
            text = f"{played.lost}. Only your input is heard from here on, at its --dry gain; Ctrl+C ends"
            error_console.print(labelled("server lost", text, "bold red"), soft_wrap=True)
            told_lost = True
        if played.blocks != blocks:
            blocks, moved_at = played.blocks, now
        elif now - moved_at >= STILL_SECONDS:
            raise UserError(f"the sound card has given no block for {STILL_SECONDS:g} s: was it unplugged?")
    if not played.over:
        raise UserError("the sound card has stopped: was it unplugged?")


def _device(sounddevice: Any, name: str | None, kind: str) -> dict[str, Any]:
    """The device of this number or part of a name."""
    try:
        found: dict[str, Any] = sounddevice.query_devices(int(name) if name and name.isdecimal() else name, kind)
    except (sounddevice.PortAudioError, ValueError) as error:
        what = {"input": "microphone", "output": "loudspeaker"}[kind]
        if name is not None:
            text = f"there is no {what} {name!r} ({_one_line(error)}): {LIST}"
        else:
            text = f"this machine has no {what} ({_one_line(error)}): connect one, {WITHOUT_CARD}"
        raise UserError(text) from error
    return found


def _inputs(microphone: dict[str, Any], heard: list[int] | None) -> tuple[int, ...]:
    """The inputs of the device that are heard, from 0."""
    most = microphone["max_input_channels"]
    if heard is None:
        return tuple(range(min(MOST_CHANNELS, most)))
    for number in heard:
        if not 1 <= number <= most:
            inputs = "input 1 only" if most == 1 else f"inputs 1 to {most}"
            raise UserError(f"{microphone['name']} has no input {number}: it has {inputs}")
    return tuple(number - 1 for number in heard)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def sounddevice_package(without: str) -> Any:
    """The sounddevice package, once it is sure that there is PortAudio and a device; else `without` is the remedy."""
    try:
        import sounddevice
    except OSError as error:  # what it raises where the library is missing
        text = f"PortAudio is not installed: install it (Debian: apt install libportaudio2), {without}"
        raise UserError(text) from error
    if not len(sounddevice.query_devices()):
        raise UserError(f"this machine has no audio device: connect one, {without}")
    return sounddevice
