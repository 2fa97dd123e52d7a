"""Voice and band of songs as tokens, written once, several passages at a time, and read by every trainer.

tokens = tokenizer(passage)              # "vocal", "instrumental": [1, frame]; "codes": [codebook, frame]
tokenize(passages, folder, load, jobs=8)             # goes on where it stopped
songs = [song for path in shards(folder) for song in read_tokens(path)]
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.codecs.base import Codec, SemanticEncoder
from backline.corpus.manifest import CorpusError
from backline.corpus.multitrack import Multitrack, Sound, StemsMissing, voice_and_band
from backline.corpus.songs import Passage
from backline.models.hafm.grid import CHUNK_QUANTUM
from backline.models.hafm.interleaved.band import PREDICTED
from backline.models.hafm.interleaved.config import COARSE_CODES, StageConfig

SHARD = 32  # passages

Tokens = dict[str, NDArray[np.int16]]  # by name, [codebook, frame]
Say = Callable[[int, int], None]  # passages done, and of how many


@dataclass(frozen=True)
class PairTokenizer:
    """What makes tokens of a passage's two sides (HAFM, section 3.2)."""

    encoder: SemanticEncoder  # of both
    codec: Codec  # of the band
    noise: float  # deviation of the noise under the voice, which hides what a separator has left
    band_encoder: SemanticEncoder | None = None  # of the band, where it has tokens of its own

    @torch.inference_mode()
    def __call__(self, passage: Passage) -> Tokens:
        """All tokens of a passage, cut to whole chunk quanta, so that every rate fits.

        Raises:
            CorpusError, StemsMissing: it cannot be read, or has no voice apart from a band.
        """
        song = passage.song()
        voice, band = voice_and_band_heard(song, passage.seed, self.encoder.sample_rate, self.noise)
        _, coded = voice_and_band(song, self.codec.sample_rate)
        found = {
            "vocal": self.encoder.encode(_row(voice)),
            "instrumental": (self.band_encoder or self.encoder).encode(_row(band)),
            "codes": self.codec.encode(_row(_whole(coded, self.codec.sample_rate)))[0],
        }
        frames = {name: int(CHUNK_QUANTUM * self.encoder.frame_rate) for name in found}  # of a quantum
        frames["codes"] = int(CHUNK_QUANTUM * self.codec.frame_rate)
        quanta = min(tokens.shape[1] // frames[name] for name, tokens in found.items())
        return {
            name: tokens[:, : quanta * frames[name]].cpu().numpy().astype(np.int16) for name, tokens in found.items()
        }


def voice_and_band_heard(song: Multitrack, seed: int, sample_rate: int, noise: float) -> tuple[Sound, Sound]:
    """Voice, under noise of that deviation, and band [sample], as a semantic encoder hears them; whole chunk quanta."""
    voice, band = voice_and_band(song, sample_rate)
    draw = np.random.default_rng([seed, 0x7A])
    noisy = voice + np.float32(noise) * draw.standard_normal(len(voice), dtype=np.float32)
    return _whole(noisy, sample_rate), _whole(band, sample_rate)


def crop(tokens: Tokens, first: int, quanta: int) -> Tokens:
    """`quanta` chunk quanta from number `first` on."""
    whole = quanta_of(tokens)
    return {
        name: array[:, first * array.shape[1] // whole : (first + quanta) * array.shape[1] // whole]
        for name, array in tokens.items()
    }


def quanta_of(tokens: Mapping[str, NDArray[np.int16]]) -> int:
    """How many chunk quanta a passage has."""
    return tokens["codes"].shape[1] // int(CHUNK_QUANTUM * COARSE_CODES.rate)


def batch_of(clips: Sequence[Tokens], name: str, stage: StageConfig) -> tuple[list[Tensor], Tensor]:
    """What stage `name` hears and predicts in clips of equal length.

    Returns:
        Conditions [row, codebook, frame] per source, and targets [row, quantizer, frame].
    """
    coarse = stage.quantizers if name == "coarse" else len(clips[0]["codes"]) - stage.quantizers

    def stacked(side: str) -> Tensor:
        codes = {"coarse": slice(None, coarse), "fine": slice(coarse, None)}
        arrays = [clip["codes"][codes[side]] if side in codes else clip[side] for clip in clips]
        return torch.from_numpy(np.stack(arrays).astype(np.int64))

    return [stacked(source.name) for source in stage.sources], stacked(PREDICTED[name])


def _whole(sound: Sound, rate: int) -> Sound:
    return sound[: len(sound) // int(CHUNK_QUANTUM * rate) * int(CHUNK_QUANTUM * rate)]


def _row(sound: Sound) -> Tensor:
    """[1, 1, sample]"""
    return torch.from_numpy(np.ascontiguousarray(sound))[None, None]


# ---- files ---------------------------------------------------------------------------------------------


def write_tokens(path: Path, songs: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """A file of songs, each some arrays by name; it appears whole or not at all."""
    arrays = {f"{number}.{name}": array for number, song in enumerate(songs) for name, array in song.items()}
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def read_tokens(path: Path) -> list[dict[str, NDArray[Any]]]:
    """The songs of a file."""
    songs: dict[str, dict[str, NDArray[Any]]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            number, name = key.split(".")
            songs.setdefault(number, {})[name] = arrays[key]
    return list(songs.values())


def shards(folder: Path) -> list[Path]:
    """The files that `tokenize` has written into a folder."""
    return sorted(folder.glob("shard-*.npz"))


def tokenize(
    passages: Sequence[Passage],
    folder: Path,
    load: Callable[[], PairTokenizer],
    shortest: Fraction,
    jobs: int = 1,
    say: Say = lambda done, all_of_them: None,
) -> list[str]:
    """Writes the tokens of all passages that last `shortest` seconds, where they are not written yet.

    Args:
        load: makes what tokenizes, in each of the `jobs` processes; it must be picklable.
    Returns:
        What could not be read, in sentences.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [passages[at : at + SHARD] for at in range(0, len(passages), SHARD)]
    wanted = {folder / f"shard-{number:05d}.npz": part for number, part in enumerate(parts)}
    missing = {path: part for path, part in wanted.items() if not path.exists()}
    done, problems = len(passages) - sum(map(len, missing.values())), []
    say(done, len(passages))
    if not missing:
        return []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(missing)), context, _begin, (load,)) as pool:
        work = {pool.submit(_write, path, part, shortest): part for path, part in missing.items()}
        try:
            for finished in as_completed(work):
                problems += finished.result()
                done += len(work[finished])
                say(done, len(passages))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return problems


_tokenizer: PairTokenizer | None = None


def _begin(load: Callable[[], PairTokenizer]) -> None:
    """In a new process."""
    global _tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the process that gives the work
    torch.set_num_threads(1)
    _tokenizer = load()


def _write(path: Path, passages: Sequence[Passage], shortest: Fraction) -> list[str]:
    assert _tokenizer is not None
    songs, problems = [], []
    for passage in passages:
        try:
            tokens = _tokenizer(passage)
        except (CorpusError, StemsMissing) as error:
            problems.append(f"{passage.title}: {error}")
            continue
        if quanta_of(tokens) * CHUNK_QUANTUM >= shortest:
            songs.append(tokens)
    write_tokens(path, songs)
    return problems
