"""Small corpora: songs of noises and tones, written as `backline data prepare` writes them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from backline.corpus.corpus import Corpus
from backline.corpus.manifest import Manifest, SongEntry, Source, StemEntry, safe_name, stem_path, write_manifest
from backline.corpus.songs import Composer
from backline.corpus.stem_file import StemFile
from backline.music.seeds import TEST_SEED, Purpose
from backline.sound_files import Audio


def noises(*labels: str, seconds: float = 1.0, channels: int = 2, seed: int = 0) -> dict[str, Audio]:
    """A noise [channel, sample] for each label, 48 kHz."""
    draw = np.random.default_rng(seed)
    return {
        label: (0.05 * draw.standard_normal((channels, round(48_000 * seconds)))).astype(np.float32) for label in labels
    }


def write_song(
    folder: Path,
    title: str,
    stems: Mapping[str, Audio],
    split: Purpose = "training",
    separator: str = "",
    **more: object,
) -> SongEntry:
    """The stems by their labels, at 48 kHz; `more` goes into the entry."""
    name, entries = safe_name(title), []
    for label, audio in stems.items():
        path = stem_path(folder, name, safe_name(label))
        path.parent.mkdir(parents=True, exist_ok=True)
        file = StemFile(path, audio.shape[0])
        file.write(audio)
        entries.append(StemEntry(path.stem, label, audio.shape[0], file.finish(), file.scale, separator))
    samples = next(iter(stems.values())).shape[1]
    return SongEntry(name, title, split, samples, "0" * 64, Source(title, "0" * 16, 1, 1), tuple(entries), **more)  # type: ignore[arg-type]


def composed_corpus(folder: Path, composer: Composer, count: int) -> Path:
    """The first songs by which packs are judged, written to disk as the test songs of a corpus."""
    entries = []
    for number in range(count):
        song = composer.song(TEST_SEED + number)
        stems = {label: song.read(stem, 48_000) for stem, label in song.labels.items()}
        assert len(stems) == len(song.labels), "two stems of one label"
        entries.append(write_song(folder, f"song {number}", stems, split="test"))
    return write_corpus(folder, *entries).folder


def write_corpus(folder: Path, *songs: SongEntry, filters: tuple[str, ...] = ()) -> Corpus:
    write_manifest(folder, Manifest(1, 0, filters, songs))
    return Corpus.open(folder)
