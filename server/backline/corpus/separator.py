"""Cuts a mix into stems with a pack, block by block: what a session on it would play, at any length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from backline.corpus.manifest import SAMPLE_RATE, CorpusError
from backline.corpus.stem_names import MIX, label_of
from backline.engine.timeline import OutputTimeline
from backline.models.rows import sounding, whole_chunks
from backline.models.stream import ChunkInput, SessionConfig, Stream, StreamSpec
from backline.sound_files import Audio, RateChange

MOST_SILENCE = 120  # seconds past the end of a mix within which a pack has to have played all of it


@dataclass(frozen=True)
class SeparatorPack:
    """Which pack to separate with, and where."""

    folder: Path
    name: str  # with its version: what stems that it has made are known by
    device: str = "cpu"

    def load(self) -> Separator:
        """Raises CorpusError: it cannot be loaded, or does not separate."""
        from backline.models.errors import PackError
        from backline.packs.pack import load_stream, read_pack

        try:
            return Separator(load_stream(read_pack(self.folder), self.device), self.name)
        except PackError as error:
            raise CorpusError(str(error)) from error


def stem_ports(spec: StreamSpec) -> dict[str, str]:
    """The ports of a separator, with what each plays.

    Raises:
        CorpusError: a port is no stem, or two are the same.
    """
    ports = {port.name: label_of(port.name) for port in spec.ports}
    labels = {label for label in ports.values() if label not in (None, MIX)}
    if len(labels) < 2 or len(labels) < len(ports):
        raise CorpusError(
            f"this pack plays {', '.join(ports)}, which are not the stems of a song: use one with ports such as vocals "
            "and instrumental, or vocals, drums, bass and other"
        )
    return {port: label for port, label in ports.items() if label is not None}


class Separator:
    """A resident pack that separates. One thread."""

    def __init__(self, stream: Stream, name: str) -> None:
        self.name = name
        self.ports = stem_ports(stream.spec)
        self._stream = stream

    def separate(self, blocks: Iterable[Audio], channels: int) -> Iterator[dict[str, Audio]]:
        """The stems [channel, sample] by label of a mix that comes in blocks [channel, sample], at SAMPLE_RATE.

        What comes out is as long as what went in. The seed is always the same.
        """
        playing = _Playing(self._stream, channels)
        try:
            for ports in playing.play(blocks):
                yield {self.ports[port]: audio for port, audio in ports.items()}
        finally:
            playing.close()


class _Playing:
    """One session on the pack."""

    def __init__(self, stream: Stream, channels: int) -> None:
        spec = stream.spec
        self._stream, self._spec = stream, spec
        self._rate_in, self._rate_out = spec.input_rate or SAMPLE_RATE, spec.output_rate or SAMPLE_RATE
        self._channels = spec.input_channels or channels
        self._to_pack = RateChange(SAMPLE_RATE, self._rate_in, self._channels)
        counts = [port.channels or self._channels for port in spec.ports]
        self._ends = np.cumsum(counts)  # of the ports in the timeline, which holds all of them
        self._timeline = OutputTimeline(sum(counts))
        self._back = RateChange(self._rate_out, SAMPLE_RATE, sum(counts))
        self._waiting = np.zeros((self._channels, 0), np.float32)  # for the pack, at its rate
        self._taken = 0  # samples that it has been given
        self._heard = self._played = 0  # samples of the mix, and of its stems
        self._ended = False
        self._parameters = {entry.name: entry.default for entry in spec.parameters}
        chunk = spec.default_chunk_seconds
        visibility = spec.visibility(chunk)
        self._row = stream.open(
            SessionConfig(SAMPLE_RATE, self._channels, chunk, visibility, 0, self._parameters, offline=True)
        )

    def close(self) -> None:
        self._stream.close(self._row)

    def play(self, blocks: Iterable[Audio]) -> Iterator[dict[str, Audio]]:
        for block in blocks:
            self._heard += block.shape[1]
            self._wait(self._to_pack.process(self._as_wanted(block)))
            while self._needed() <= self._waiting.shape[1]:
                yield from self._step()
        self._wait(self._to_pack.finish())
        self._ended = True
        silence = 0
        while self._played < self._heard:
            missing = max(0, self._needed() - self._waiting.shape[1])
            silence += missing
            if silence > MOST_SILENCE * self._rate_in:
                raise CorpusError(f"the pack has not played all of a song after {MOST_SILENCE} s of silence")
            self._wait(np.zeros((self._channels, missing), np.float32))
            yield from self._step()

    def _as_wanted(self, block: Audio) -> Audio:
        if block.shape[0] == self._channels:
            return block
        return np.repeat(block.mean(axis=0, keepdims=True, dtype=np.float32), self._channels, axis=0)

    def _wait(self, audio: Audio) -> None:
        self._waiting = np.concatenate([self._waiting, audio], axis=1)

    def _needed(self) -> int:
        """Samples that the next chunk takes."""
        return max(0, self._stream.required_input(self._row) - self._taken)

    def _step(self) -> Iterator[dict[str, Audio]]:
        """The next chunk, and what has become final by it."""
        count = self._needed()
        given, self._waiting = self._waiting[:, :count], self._waiting[:, count:]
        self._taken += count
        (answer,) = whole_chunks(self._stream, [ChunkInput(self._row, given, None, self._parameters)])
        output = sounding(answer)
        if output.audio:
            self._timeline.lay(output.position, np.concatenate(output.audio))
        final = self._back.process(self._timeline.commit())
        if self._ended:
            final = final[:, : self._heard - self._played]
        self._played += final.shape[1]
        if final.shape[1]:
            yield dict(zip((port.name for port in self._spec.ports), np.split(final, self._ends[:-1]), strict=True))
