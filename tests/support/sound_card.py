"""A sound card for tests: the part of the `sounddevice` package that `backline live` uses, as PortAudio behaves.

Its thread calls back block after block as fast as it may; `clock` is called in that thread before each, and may wait,
so that a test turns the time. What a callback raises by mistake is printed and ends the stream, as cffi does it.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np


def device(
    name: str, inputs: int, outputs: int, rates: tuple[int, ...] = (44_100, 48_000), default: int = 48_000
) -> dict[str, Any]:
    return {
        "name": name, "max_input_channels": inputs, "max_output_channels": outputs, "rates": rates,
        "default_samplerate": float(default),
    }  # fmt: skip


class Flags:
    """Of a callback: `sounddevice.CallbackFlags`."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def __bool__(self) -> bool:
        return bool(self.names)

    def __getattr__(self, name: str) -> bool:
        return name in self.names


class SoundDevice:
    """The package, and what its devices do.

    Args:
        devices: from `device`; the first with inputs and the first with outputs are the system's own.
        captured: [channel, sample], what comes in; silence after that.
        clock: called before each block with its number.
        flags: of each block.
        unplugged: the number of the block at which the card goes, and "finished" (the stream ends, as ALSA's does) or
            "still" (no callback comes any more, as Core Audio's).
        fails: what making ("open") or starting ("start") a stream raises.
    """

    class PortAudioError(Exception):
        pass

    class CallbackStop(Exception):
        pass

    def __init__(
        self,
        *devices: dict[str, Any],
        captured: np.ndarray | None = None,
        clock: Callable[[int], None] = lambda number: None,
        flags: Callable[[int], Flags] = lambda number: Flags(),
        unplugged: tuple[int, str] | None = None,
        fails: dict[str, BaseException] | None = None,
    ) -> None:
        self.devices = [{**each, "index": index} for index, each in enumerate(devices or [device("card", 2, 2)])]
        self.captured = np.zeros((2, 0), np.float32) if captured is None else captured
        self.clock, self.flags, self.unplugged, self.fails = clock, flags, unplugged, fails or {}
        self.shape: dict[str, Any] = {}  # of the stream that was opened
        self.played: list[np.ndarray] = []  # [frame, channel] of each block
        self.thread: threading.Thread | None = None

    def query_devices(self, wanted: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices
        most = f"max_{kind}_channels"
        if isinstance(wanted, int):
            found = [each for each in self.devices if each["index"] == wanted]
        else:
            found = [each for each in self.devices if (wanted or "").lower() in each["name"].lower() and each[most]]
        if not found and isinstance(wanted, str):
            raise ValueError(f"No {kind} device matching {wanted!r}")
        if not found:
            raise self.PortAudioError("Error querying device -1")
        if len(found) > 1 and wanted is not None:
            lines = "\n".join(f"[{each['index']}] {each['name']}" for each in found)
            raise ValueError(f"Multiple {kind} devices found for {wanted!r}:\n{lines}")
        if not found[0][most]:
            raise ValueError(f"Not an {kind} device: {found[0]['name']!r}")
        return found[0]

    def check_input_settings(self, device: int, channels: int, dtype: str, samplerate: float) -> None:
        self._check(device, channels, samplerate, "max_input_channels")

    def check_output_settings(self, device: int, channels: int, dtype: str, samplerate: float) -> None:
        self._check(device, channels, samplerate, "max_output_channels")

    def _check(self, index: int, channels: int, rate: float, most: str) -> None:
        if not 1 <= channels <= self.devices[index][most]:
            raise self.PortAudioError("Invalid number of channels [PaErrorCode -9998]")
        if rate not in self.devices[index]["rates"]:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")

    def Stream(self, *, callback: Callable[..., None], **shape: Any) -> Stream:
        (source, speakers), (inputs, outputs) = shape["device"], shape["channels"]
        self.check_input_settings(source, inputs, "float32", shape["samplerate"])
        self.check_output_settings(speakers, outputs, "float32", shape["samplerate"])
        return Stream(self, callback, shape, inputs, outputs)

    def OutputStream(self, *, callback: Callable[..., None], **shape: Any) -> Stream:
        self.check_output_settings(shape["device"], shape["channels"], "float32", shape["samplerate"])
        return Stream(self, lambda _, *arguments: callback(*arguments), shape, 0, shape["channels"])


class Stream:
    """An open stream, and its thread once it is started."""

    def __init__(
        self, card: SoundDevice, callback: Callable[..., None], shape: dict[str, Any], inputs: int, outputs: int
    ) -> None:
        if "open" in card.fails:
            raise card.fails["open"]
        self.card, self.callback, self.inputs, self.outputs = card, callback, inputs, outputs
        card.shape = shape
        self.ended = threading.Event()
        card.thread = self.thread = threading.Thread(target=self._run, name="card", daemon=True)

    def start(self) -> None:
        if "start" in self.card.fails:
            raise self.card.fails["start"]
        self.thread.start()

    def abort(self) -> None:
        self.ended.set()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def close(self) -> None:
        self.ended.set()

    def _run(self) -> None:
        card, frames = self.card, self.card.shape["blocksize"]
        number = 0
        while not self.ended.is_set():
            if card.unplugged is not None and number == card.unplugged[0]:
                if card.unplugged[1] == "still":
                    self.ended.wait(30)
                break
            card.clock(number)
            here = card.captured[:, number * frames : (number + 1) * frames]
            captured = np.zeros((frames, self.inputs), np.float32)
            captured[: here.shape[1]] = here[: self.inputs].T
            speakers = np.full((frames, self.outputs), np.nan, np.float32)
            try:
                self.callback(captured, speakers, frames, None, card.flags(number))
                card.played.append(speakers)
            except card.CallbackStop:
                card.played.append(speakers)
                break
            except BaseException:
                traceback.print_exc()
                break
            number += 1
        card.shape["finished_callback"]()
