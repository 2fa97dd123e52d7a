"""What is asked for by name, as small as it gets: songs of pulsing noise, who knows them, and a pack that does not."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from backline.codecs.vae.config import SpectralConfig
from backline.codecs.vae.load import packed as packed_vae
from backline.codecs.vae.spectral import SpectralVae
from backline.corpus.labelled import stems_of
from backline.corpus.multitrack import Multitrack
from backline.evaluation.live import Sound
from backline.models.mge.config import MgeConfig
from backline.models.mge.network import PREFIX, MgeNetwork
from backline.models.mge.towers import PREFIX as TOWERS_PREFIX
from backline.models.mge.towers import TowersConfig, TowersNetwork
from backline.models.mge.words import HELD_OUT
from backline.nn.dit import DiTConfig
from backline.packs.pack import Pack, write_pack
from backline.sound_files import Audio
from tests.training.test_vae import TOY_CODEC

BAND = ("vocals", "drums", "electric bass", "piano")
BANDS = {"vocals": (800, 1500), "drums": (4000, 7500), "electric bass": (50, 120), "piano": (250, 500)}  # Hz
OTHERS = (1800, 3000)  # Hz

NETWORK = DiTConfig(
    channels=6, condition=8, width=8, layers=1, heads=2, time_features=8, norm="frame", time="frame"
)  # fmt: skip
TOWERS = TowersConfig(width=8, bands=8, window=2048, hop=1920, channels=(4, 8), buckets=64, gram_width=4)


@dataclass
class Pulses:
    """A song whose stems are noise in a band of its own each, that pulses as no other does."""

    seed: int
    stems: Sequence[str] = BAND
    seconds: float = 2.0
    rests: Mapping[str, float] = field(default_factory=dict)  # seconds after which a stem is silent

    @property
    def title(self) -> str:
        return f"song {self.seed}"

    @property
    def labels(self) -> Mapping[str, str]:
        return {name: name for name in self.stems}

    def read(self, stem: str, sample_rate: int, begin: float = 0.0, seconds: float | None = None) -> Audio:
        times = np.arange(round(self.seconds * 48_000)) / 48_000
        random = np.random.default_rng([self.seed % 2**32, len(stem)])
        noise = random.standard_normal(len(times))
        pulse = np.maximum(0.02, np.sin(2 * np.pi * (times * random.uniform(1.5, 4) + random.random())))
        band = butter(4, BANDS.get(stem, OTHERS), "bandpass", fs=48_000, output="sos")
        sound = 0.2 * pulse * sosfilt(band, noise) * (times < self.rests.get(stem, np.inf))
        step = 48_000 // sample_rate
        first = round(begin * sample_rate)
        length = len(sound) // step if seconds is None else round(seconds * sample_rate)
        return sound[np.newaxis, ::step][:, first : first + length].astype(np.float32)


@dataclass
class Library:
    """`Songs`, each of the same stems."""

    stems: Sequence[str] = BAND

    def song(self, seed: int) -> Multitrack:
        return Pulses(seed, self.stems)

    def test_songs(self) -> None:
        return None


class Knowing:
    """Answers with the truth, by listening for the song that it is asked about."""

    def __init__(self, songs: Sequence[Multitrack], sample_rate: int) -> None:
        self.songs = [stems_of(song, sample_rate) for song in songs]

    def extract(self, mixture: Sound, prompt: str, seed: int) -> tuple[Sound, Sound]:
        labels, stems = next(song for song in self.songs if np.array_equal(song[1].sum(axis=0), mixture))
        wanted = [meant(prompt) in of for of in labels]
        return stems[wanted].sum(axis=0), mixture - stems[wanted].sum(axis=0)

    def impute(self, given: Sound, prompts: Sequence[str], seed: int) -> list[Sound]:
        names = [meant(prompt) for prompt in prompts]
        for labels, stems in self.songs:
            found = [stems[[of[0] for of in labels].index(name)] for name in names]
            if np.allclose(stems.sum(axis=0) - np.sum(found, axis=0), given, atol=1e-6):
                return found
        raise AssertionError("no such song")


def meant(prompt: str) -> str:
    """The label that a prompt is about."""
    word = prompt.removeprefix("the sound of the ")
    return next((label for label, words in HELD_OUT.items() if word in words), word)


def write_random_pack(folder: Path, name: str = "mge") -> Pack:
    """A pack of the family with weights that chance gives."""
    torch.manual_seed(0)
    network = MgeNetwork(MgeConfig(NETWORK, window_frames=8))
    for weights in network.parameters():
        if not weights.any():  # as training begins: with them nothing that is asked for would count
            torch.nn.init.normal_(weights, std=0.3)
    vae, tensors = packed_vae(SpectralVae(SpectralConfig(TOY_CODEC, NETWORK.channels)))
    tensors |= {f"{PREFIX}{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"{TOWERS_PREFIX}{key}": value for key, value in TowersNetwork(TOWERS).state_dict().items()}
    table = {
        "format": 1, "name": name, "version": "0.1.0", "family": "mge", "description": "by chance",
        "license": "Apache-2.0", "mge": asdict(network.config), "vae": vae, "towers": asdict(TOWERS),
        "stream": {"chunk_seconds": "2/25", "guard_seconds": "2/25"},
    }  # fmt: skip
    return write_pack(folder / name, table, tensors)


class Loudness:
    """An `Embedding` of tenths of a second, so that a few seconds are enough: two loudnesses."""

    name = "loudness"
    sample_rate = 8_000
    dimensions = 2

    def frames(self, audio: Sound) -> NDArray[np.float32]:
        blocks = audio[: len(audio) // 800 * 800].reshape(-1, 800)
        rough = np.diff(blocks, axis=1)
        return np.stack([np.log(np.square(each).mean(axis=1) + 1e-6) for each in (blocks, rough)], axis=1)
