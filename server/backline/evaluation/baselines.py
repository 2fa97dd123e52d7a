"""What a generated accompaniment is compared with: another piece's, one found by key and tempo, the codec's best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import istft, stft

from backline.codecs.base import Codec
from backline.evaluation.codec import decode, encode
from backline.evaluation.live import Sound, at_rate
from backline.music.composer import compose
from backline.music.piece import Piece
from backline.music.seeds import HELD_OUT_SEED, training_seed
from backline.music.world import World

MASK_WINDOW = 2048  # samples


def derangement(count: int, seed: int) -> list[int]:
    """For each of `count` pieces another one, each taken once.

    Raises:
        ValueError: there is no other piece.
    """
    if count < 2:
        raise ValueError(f"{count} pieces cannot be shuffled: use at least 2")
    order = np.random.default_rng(seed).permutation(count)
    paired = np.empty(count, np.int64)
    paired[order] = np.roll(order, 1)  # one ring through all of them, so nobody meets himself
    return paired.tolist()


def fitted(sound: Sound, length: int) -> Sound:
    """[sample] cut to `length`, or begun again where it is shorter, because silence would be judged as music."""
    return np.resize(sound, length)


@dataclass(frozen=True)
class Pool:
    """Pieces that retrieval may answer with; only composed, because few of them will be heard."""

    pieces: tuple[Piece, ...]

    @classmethod
    def of_training(cls, world: World, size: int, run: int = 0) -> Pool:
        """The first `size` pieces that training run number `run` hears."""
        return cls.of(world, (training_seed(run, number) for number in range(size)))

    @classmethod
    def of(cls, world: World, seeds: Iterable[int]) -> Pool:
        """The pieces of these seeds.

        Raises:
            ValueError: one of them is held out.
        """
        seeds = list(seeds)
        if held_out := [seed for seed in seeds if seed >= HELD_OUT_SEED]:
            raise ValueError(f"pieces {held_out} are held out: retrieve from seeds below {HELD_OUT_SEED}")
        return cls(tuple(compose(seed, world) for seed in seeds))

    def nearest(self, wanted: Piece) -> Piece:
        """The piece in the key and, if it can be, metre of `wanted` whose tempo is nearest; the papers' retrieval.

        Raises:
            ValueError: nothing is in that key.
        """
        same_key = [piece for piece in self.pieces if piece.key == wanted.key]
        if not same_key:
            raise ValueError(f"none of {len(self.pieces)} pieces is in {wanted.key.name}: use a larger pool")
        return min(same_key, key=lambda piece: (piece.metre != wanted.metre, abs(piece.tempo - wanted.tempo)))


def through_codec(codec: Codec, sounds: Sequence[Sound], sample_rate: int) -> list[Sound]:
    """Each sound [sample] encoded and decoded: as well as codes can say it."""
    decoded = []
    for sound in sounds:
        audio = at_rate(sound, sample_rate, codec.sample_rate)
        again = decode(codec, encode(codec, np.pad(audio, (0, -len(audio) % codec.hop))))
        decoded.append(at_rate(again, codec.sample_rate, sample_rate, len(sound)))
    return decoded


def separated_vocal(vocal: Sound, band: Sound) -> Sound:
    """The vocal [sample] as a separator cuts it out of the mix, with what of the band lies under it.

    By a Wiener mask that knows both: the best that a mask on magnitudes can do, so kinder than any real separator.
    """
    _, _, sung = stft(vocal, nperseg=MASK_WINDOW)
    _, _, played = stft(band, nperseg=MASK_WINDOW)
    mask = np.abs(sung) ** 2 / np.maximum(np.abs(sung) ** 2 + np.abs(played) ** 2, 1e-12)
    _, separated = istft(mask * (sung + played), nperseg=MASK_WINDOW)
    return separated[: len(vocal)].astype(np.float32)
