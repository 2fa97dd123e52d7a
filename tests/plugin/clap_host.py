"""A CLAP host: loads a .clap as a DAW does, plays it, and writes down what the plugin asks of its host.

with Bundle(path) as bundle, bundle.create() as plugin:
    plugin.activate(48_000, 512)
    outputs = plugin.process(audio)        # [port] of float32 [channel, sample]

Threads are roles here: who plays is the audio thread meanwhile, everything else is the main thread.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_float, c_void_p, cast, pointer
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import Event

Audio = NDArray[np.float32]  # [channel, sample]
PLUGIN_ID = b"dev.backline.backline"
CHANNELS = 2


class Bundle:
    """A .clap file, loaded and entered as long as the `with` block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.entry = abi.Entry.in_dll(self.library, "clap_entry")

    def __enter__(self) -> Self:
        assert self.entry.init(str(self.path).encode())
        return self

    def __exit__(self, *_: object) -> None:
        self.entry.deinit()

    @property
    def factory(self) -> abi.Factory:
        found = self.entry.get_factory(abi.FACTORY_ID)
        assert found
        return cast(found, POINTER(abi.Factory)).contents

    @property
    def descriptor(self) -> abi.Descriptor:
        return self.factory.get_plugin_descriptor(byref(self.factory), 0).contents

    def create(self, host: Host | None = None, initialise: bool = True) -> ClapPlugin:
        host = host or Host()
        made = self.factory.create_plugin(byref(self.factory), byref(host.table), PLUGIN_ID)
        assert made, "the factory made no plugin"
        plugin = ClapPlugin(made, host)
        if initialise:
            assert plugin.call("init")
        return plugin


class Host:
    """What a plugin sees of its host: `calls` in their order, and `misuse` of the threading rules."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.misuse: list[str] = []
        self.rescans: list[int] = []  # flags
        self.active = False  # whether its plugin is
        self.audio_role = False
        self._extensions = {
            b"clap.latency": _table(abi.HostLatency, changed=lambda _: self._on_main("latency.changed")),
            b"clap.params": _table(
                abi.HostParams,
                rescan=lambda _, flags: self._rescan(flags),
                clear=lambda *_: self._on_main("params.clear"),
                request_flush=lambda _: self.calls.append("params.request_flush"),
            ),
            b"clap.thread-check": _table(
                abi.HostThreadCheck,
                is_main_thread=lambda _: not self.audio_role,
                is_audio_thread=lambda _: self.audio_role,
            ),
        }
        self.table = _table(
            abi.Host,
            get_extension=lambda _, name: (
                ctypes.addressof(self._extensions[name]) if name in self._extensions else None
            ),
            request_restart=lambda _: self.calls.append("request_restart"),
            request_process=lambda _: self.calls.append("request_process"),
            request_callback=lambda _: self.calls.append("request_callback"),
        )
        self.table.version_of_clap = abi.Version(1, 2, 0)
        self.table.name, self.table.vendor = b"Backline's tests", b"Backline"
        self.table.url, self.table.version = b"", b"1"

    def count(self, call: str) -> int:
        return self.calls.count(call)

    def _rescan(self, flags: int) -> None:
        self.rescans.append(flags)
        self._on_main("params.rescan")
        if flags & abi.RESCAN_ALL and self.active:
            self.misuse.append("a range changed while the plugin was active")

    def _on_main(self, call: str) -> None:
        self.calls.append(call)
        if self.audio_role:
            self.misuse.append(f"{call} on the audio thread")

    @contextmanager
    def audio_thread(self) -> Iterator[None]:
        self.audio_role = True
        try:
            yield
        finally:
            self.audio_role = False


class ClapPlugin:
    """One instance; destroyed at the end of the `with` block."""

    def __init__(self, made: Any, host: Host) -> None:
        self.made = made  # pointer to abi.Plugin
        self.host = host
        self.active = False
        self.processing = False
        self.max_frames = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.deactivate()
        self.call("destroy")

    def call(self, name: str, *arguments: Any) -> Any:
        """A function of the plugin's own table."""
        return getattr(self.made.contents, name)(self.made, *arguments)

    def extension(self, name: bytes, kind: type[ctypes.Structure]) -> Callable[..., Any]:
        """extension(...)("function", arguments) calls a function of that extension."""
        found = self.call("get_extension", name)
        assert found, f"the plugin has no {name.decode()}"
        table = cast(found, POINTER(kind)).contents
        return lambda function, *arguments: getattr(table, function)(self.made, *arguments)

    # ---- life ----------------------------------------------------------------------------------------

    def activate(self, sample_rate: float, max_frames: int) -> None:
        assert self.call("activate", sample_rate, 1, max_frames), f"refused {sample_rate} Hz, {max_frames} frames"
        self.active = self.host.active = True
        self.max_frames = max_frames
        with self.host.audio_thread():
            assert self.call("start_processing")
        self.processing = True

    def deactivate(self) -> None:
        if self.processing:
            with self.host.audio_thread():
                self.call("stop_processing")
        self.call("deactivate")
        self.active = self.host.active = self.processing = False

    def reset(self) -> None:
        with self.host.audio_thread():
            self.call("reset")

    def serve_callbacks(self) -> None:
        """What a DAW's main loop does when a plugin asked for it."""
        if "request_callback" in self.host.calls:
            self.call("on_main_thread")

    # ---- audio ---------------------------------------------------------------------------------------

    def process(
        self,
        main: Audio,
        sidechain: Audio | None = None,
        events: Sequence[Event] = (),
        transport: abi.TransportEvent | None = None,
        in_place: bool = False,
    ) -> list[Audio]:
        """One block through all ports; gives what every output port holds afterwards [port] [channel, sample]."""
        frames = main.shape[1]
        inputs = [main.copy(), np.zeros((CHANNELS, frames), np.float32) if sidechain is None else sidechain.copy()]
        outputs = [np.full((CHANNELS, frames), np.nan, np.float32) for _ in range(self.audio_port_count(False))]
        if in_place:
            outputs[0] = inputs[0]
        status = self.process_buffers(frames, inputs, outputs, events, transport)
        assert status == abi.PROCESS_CONTINUE, status
        return outputs

    def process_buffers(
        self,
        frames: int,
        inputs: Sequence[Audio | None],
        outputs: Sequence[Audio | None],
        events: Sequence[Event] = (),
        transport: abi.TransportEvent | None = None,
    ) -> int:
        """One block through just these ports; a port that is None has null channels. Gives the status."""
        ins, outs = _buffers(inputs), _buffers(outputs)
        sent, received = event_tables(events)
        block = abi.Process(
            -1,
            frames,
            pointer(transport) if transport is not None else None,
            ins,
            outs,
            len(inputs),
            len(outputs),
            pointer(sent),
            pointer(received),
        )
        return self.process_raw(block)

    def process_raw(self, block: abi.Process) -> int:
        with self.host.audio_thread():
            return int(self.call("process", byref(block)))

    def play(self, audio: Audio, block_size: int | Sequence[int], in_place: bool = False) -> Audio:
        """All of `audio` in blocks of that size, or of these sizes by turns; gives the main output."""
        sizes = [block_size] if isinstance(block_size, int) else block_size
        pieces, start, turn = [], 0, 0
        while start < audio.shape[1]:
            end = min(start + sizes[turn % len(sizes)], audio.shape[1])
            pieces.append(self.process(audio[:, start:end], in_place=in_place)[0])
            start, turn = end, turn + 1
        return np.concatenate(pieces, axis=1)

    # ---- ports ---------------------------------------------------------------------------------------

    def audio_port_count(self, is_input: bool) -> int:
        return int(self.extension(b"clap.audio-ports", abi.AudioPorts)("count", is_input))

    def audio_port(self, index: int, is_input: bool) -> abi.AudioPortInfo | None:
        info = abi.AudioPortInfo()
        found = self.extension(b"clap.audio-ports", abi.AudioPorts)("get", index, is_input, byref(info))
        return info if found else None

    def note_port_count(self, is_input: bool) -> int:
        return int(self.extension(b"clap.note-ports", abi.NotePorts)("count", is_input))

    def note_port(self, index: int, is_input: bool) -> abi.NotePortInfo | None:
        info = abi.NotePortInfo()
        found = self.extension(b"clap.note-ports", abi.NotePorts)("get", index, is_input, byref(info))
        return info if found else None

    # ---- parameters ----------------------------------------------------------------------------------

    def params(self) -> list[abi.ParamInfo]:
        params = self.extension(b"clap.params", abi.Params)
        infos = [abi.ParamInfo() for _ in range(params("count"))]
        for index, info in enumerate(infos):
            assert params("get_info", index, byref(info))
        return infos

    def value(self, identifier: int) -> float | None:
        found = ctypes.c_double()
        known = self.extension(b"clap.params", abi.Params)("get_value", identifier, byref(found))
        return found.value if known else None

    def text(self, identifier: int, value: float, size: int = abi.NAME_SIZE) -> str | None:
        """What the user reads; `size` bytes of room."""
        room = ctypes.create_string_buffer(size + 1)
        room[size] = b"\xff"  # must not be touched
        known = self.extension(b"clap.params", abi.Params)("value_to_text", identifier, value, room, size)
        assert room[size] == b"\xff", "the text overran its room"
        return room.value.decode() if known else None

    def value_of_text(self, identifier: int, text: str) -> float | None:
        found = ctypes.c_double()
        params = self.extension(b"clap.params", abi.Params)
        return found.value if params("text_to_value", identifier, text.encode(), byref(found)) else None

    def flush(self, events: Sequence[Event]) -> None:
        sent, received = event_tables(events)
        self.host.audio_role = self.active
        self.extension(b"clap.params", abi.Params)("flush", byref(sent), byref(received))
        self.host.audio_role = False

    # ---- state, latency, tail, render ----------------------------------------------------------------

    def save(self, most: int = 1 << 20) -> bytes:
        """The state, through a stream that takes `most` bytes at a time."""
        saved = bytearray()

        def write(_: int, data: int, size: int) -> int:
            taken = min(size, most)
            saved.extend(ctypes.string_at(data, taken))
            return taken

        assert self.save_to(write)
        return bytes(saved)

    def load(self, state: bytes, most: int = 1 << 20) -> bool:
        """Whether the plugin took the state, through a stream that gives `most` bytes at a time."""
        left = bytearray(state)

        def read(_: int, data: int, size: int) -> int:
            given = bytes(left[: min(size, most)])
            del left[: len(given)]
            ctypes.memmove(data, given, len(given))
            return len(given)

        return self.load_from(read)

    def save_to(self, write: Callable[[int, int, int], int]) -> bool:
        stream = _table(abi.OutputStream, write=write)
        return bool(self.extension(b"clap.state", abi.State)("save", byref(stream)))

    def load_from(self, read: Callable[[int, int, int], int]) -> bool:
        stream = _table(abi.InputStream, read=read)
        return bool(self.extension(b"clap.state", abi.State)("load", byref(stream)))

    @property
    def latency(self) -> int:
        return int(self.extension(b"clap.latency", abi.Latency)("get"))

    @property
    def tail(self) -> int:
        return int(self.extension(b"clap.tail", abi.Tail)("get"))

    def set_render_mode(self, mode: int) -> bool:
        return bool(self.extension(b"clap.render", abi.Render)("set", mode))


def event_tables(events: Sequence[Event]) -> tuple[abi.InputEvents, abi.OutputEvents]:
    """The list that a plugin reads `events` from, and one that takes whatever it writes."""

    def get(_: int, index: int) -> int | None:
        return ctypes.addressof(events[index]) if index < len(events) else None

    return (
        _table(abi.InputEvents, size=lambda _: len(events), get=get),
        _table(abi.OutputEvents, try_push=lambda *_: True),
    )


def _table(kind: type[ctypes.Structure], **functions: Callable[..., Any]) -> Any:
    """A structure of function pointers to these functions."""
    types = dict(kind._fields_)  # type: ignore[arg-type]
    return kind(**{name: types[name](function) for name, function in functions.items()})


def _buffers(ports: Sequence[Audio | None]) -> Any:
    """An array of CLAP audio buffers over the arrays' own memory."""
    buffers = (abi.AudioBuffer * max(1, len(ports)))()
    for buffer, audio in zip(buffers, ports, strict=False):
        if audio is None:
            buffer.channel_count = CHANNELS
            continue
        assert audio.dtype == np.float32
        assert audio.flags.c_contiguous
        channels = (POINTER(c_float) * len(audio))(
            *(cast(c_void_p(row.ctypes.data), POINTER(c_float)) for row in audio)
        )
        buffer.data32 = cast(channels, POINTER(POINTER(c_float)))
        buffer.channel_count = len(audio)
        buffer.constant_mask = 0b11  # a plugin that writes audio must take this back
    return buffers
