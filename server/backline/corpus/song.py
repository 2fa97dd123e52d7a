"""Prepares one song: reads its files, measures it, separates it if need be, writes its stems. Runs in a process."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from backline.corpus.corpus import Span
from backline.corpus.filters import Measures, voice_filter
from backline.corpus.layouts import FoundSong
from backline.corpus.manifest import SAMPLE_RATE, SONGS, StemEntry, safe_name
from backline.corpus.separator import Separator
from backline.corpus.sources import StemSource, read_together
from backline.corpus.stem_file import StemFile
from backline.corpus.stem_names import MIX
from backline.ffmpeg import NoSound
from backline.sound_files import Audio

BLOCK = SAMPLE_RATE  # samples that are worked on at a time

Watch = Callable[[], None]  # called between blocks; raises where the work is to stop


@dataclass(frozen=True)
class PreparedSong:
    """What has become of a song: its stems lie in `folder`, which is for the caller to move or to remove."""

    folder: Path
    samples: int
    sha256: str  # of the mix
    stems: tuple[StemEntry, ...]
    failing: dict[str, tuple[Span, ...]]


def prepare_song(
    found: FoundSong,
    corpus: Path,
    separator: Separator | None,
    separated_by: str = "",
    voice: str = "",
    watch: Watch = lambda: None,
) -> PreparedSong:
    """Writes the stems of a song into a new folder beside those of the corpus.

    Args:
        separator: what a song is separated with that is a mix; without one it stays a mix.
        separated_by: what has separated stems as they lie on the disk; "": they are true.
        voice: the filter that the voice is measured by; "": the better one of those that there are.
    Raises:
        NoSound: it cannot be read, or is damaged or empty.
        OSError: it cannot be written.
    """
    if found.problem:
        raise NoSound(found.problem)
    measures = Measures(voice or voice_filter())
    folder = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=corpus / SONGS))
    try:
        names = stem_names(stem.label for stem in found.stems)
        with ExitStack() as stack:
            sources = [stack.enter_context(closing(StemSource(stem))) for stem in found.stems]
            files = [
                stack.enter_context(Writing(folder, name, source.label, source.channels, separated_by))
                for name, source in zip(names, sources, strict=True)
            ]
            while (blocks := read_together(sources, BLOCK))[0].shape[1]:
                watch()
                for file, block in zip(files, blocks, strict=True):
                    file.write(block)
                measures.hear_mix(blocks)
                measures.hear_stems(by_label(zip((source.label for source in sources), blocks, strict=True)))
            if not measures.samples:
                raise NoSound("it holds no samples")
            stems = [file.finish() for file in files]
        if separator is not None and found.is_mix:
            stems += _separated(folder, stems[0], separator, measures, watch)
        return PreparedSong(folder, measures.samples, measures.sha256, tuple(stems), measures.failing())
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class Writing:
    """A stem in the making: a context that discards what is not finished."""

    def __init__(self, folder: Path, name: str, label: str, channels: int, separator: str) -> None:
        self._file = StemFile(folder / f"{name}.flac", channels)
        self._entry = (name, label, channels, "" if label == MIX else separator)
        self._finished = False
        self.write = self._file.write

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._finished:
            self._file.discard()

    def finish(self) -> StemEntry:
        name, label, channels, separator = self._entry
        sha256 = self._file.finish()
        self._finished = True
        return StemEntry(name, label, channels, sha256, self._file.scale, separator)


def stem_names(labels: Iterable[str]) -> list[str]:
    """A name for each stem: its label, with a number where another has that name."""
    found, counts = [], Counter[str]()
    for label in labels:
        counts[label] += 1
        found.append(safe_name(label if counts[label] == 1 else f"{label} {counts[label]}"))
    return found


def by_label(blocks: Iterable[tuple[str, Audio]]) -> dict[str, Audio]:
    """The sum of all stems [channel, sample] of each label."""
    found: dict[str, Audio] = {}
    for label, block in blocks:
        if label in found:
            one, other = sorted((found[label], block), key=len)
            block = one + other  # mono on both
        found[label] = block
    return found


def _separated(
    folder: Path, mix: StemEntry, separator: Separator, measures: Measures, watch: Watch
) -> Iterator[StemEntry]:
    """Cuts the mix into stems and writes them."""
    with ExitStack() as stack:
        files: Mapping[str, Writing] = {}
        for stems in separator.separate(_blocks(folder, mix), mix.channels):
            watch()
            files = files or {
                label: stack.enter_context(
                    Writing(folder, safe_name(label), label, min(2, block.shape[0]), separator.name)
                )
                for label, block in stems.items()
            }
            for label, block in stems.items():
                files[label].write(np.nan_to_num(block[:2], nan=0.0, posinf=0.0, neginf=0.0))
            measures.hear_stems(stems)
        yield from [file.finish() for file in files.values()]


def _blocks(folder: Path, mix: StemEntry) -> Iterator[Audio]:
    with soundfile.SoundFile(folder / f"{mix.name}.flac") as file:
        for block in file.blocks(BLOCK, dtype="float32", always_2d=True):
            yield np.ascontiguousarray(block.T) * np.float32(mix.scale)
