"""Text and sound in one space, in which what is asked for lies near what sounds like it: three towers (MGE.md 4).

    towers = load_towers(tensors, config)        # towers.hears: "minilm" where it is installed, else "n-grams"
    wanted = towers.embed("the sound of the bass")       # [128], of unit length
    heard = towers.embed_audio(stems)                    # [stem, 128]: the one nearest to `wanted` is the bass

Two towers read text: MiniLM, frozen, with a projection of ours, knows words that no instrument was taught by; hashed
n-grams, which every pack carries, were taught to say what it says, of the names of instruments and what is typed like
them. Where both are there, their mean counts: MiniLM alone takes a mistyped word for another one. The third tower hears
sound, so that a clip is a prompt, too: "like this".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated
from zlib import crc32

import torch
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F

from backline.models.errors import PackError
from backline.models.mge.minilm import WIDTH, MiniLM, MiniLMMissing, read_minilm
from backline.nn.mel import LogMel
from backline.nn.tables import Bands, Entries, SampleRate, Samples, Width
from backline.nn.weights import mismatches, part

PREFIX = "towers."  # of a pack's tensors
CACHED = 256  # texts whose vectors are kept
SHORTEST, LONGEST = 3, 5  # letters of an n-gram, the marks at a word's ends counted
LOWEST_LEVEL = 1e-4  # root mean square below which a sound is not raised to the level of others: silence stays silent
WHERE_MEL_LIES = 2.0, 2.5  # mean and spread of log mels of stems at a level of 1

Channels = Annotated[tuple[Width, ...], Meta(min_length=1, max_length=8)]


@dataclass(frozen=True)
class TowersConfig:
    """Sizes; what is left out is what packs are made with."""

    width: Width = 128
    sample_rate: SampleRate = 48_000  # Hz
    bands: Bands = 64
    window: Samples = 2048
    hop: Samples = 960
    channels: Channels = (32, 64, 96, 128, 192)  # of the convolutions, each of which halves time and bands
    buckets: Entries = 4096
    gram_width: Width = 64

    def __post_init__(self) -> None:
        if self.bands % 2 ** len(self.channels):
            raise ValueError(f"bands is {self.bands}: use a multiple of {2 ** len(self.channels)}, one half a channel")


class AudioTower(nn.Module):
    """[row, sample] -> [row, width], of unit length: what is heard over all of the sound, however loud it is."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.mel = LogMel(config.sample_rate, config.bands, config.window, config.hop, floor=1e-2)
        blocks: list[nn.Module] = []
        for before, after in zip((1, *config.channels), config.channels, strict=False):
            blocks += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.GELU()]
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Linear(config.channels[-1] * (config.bands >> len(config.channels)), config.width)

    def forward(self, audio: Tensor) -> Tensor:
        return self.told(self.spectrum(audio))

    def spectrum(self, audio: Tensor) -> Tensor:
        """[row, band, frame]: log mels of the sound at a level of 1, about standardised."""
        level = audio.square().mean(-1, keepdim=True).sqrt().clamp(min=LOWEST_LEVEL)
        audio = F.pad(audio / level, (0, -audio.shape[-1] % self.mel.hop))
        mean, spread = WHERE_MEL_LIES
        mel: Tensor = (self.mel(audio[:, None]) - mean) / spread
        return mel

    def told(self, spectrum: Tensor) -> Tensor:
        heard = self.blocks(spectrum[:, None]).mean(-1)  # [row, channel, band]
        return F.normalize(self.out(heard.flatten(1)), dim=-1)


class GramTower(nn.Module):
    """Buckets of n-grams to [row, width], of unit length."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.buckets = config.buckets
        self.grams = nn.EmbeddingBag(config.buckets, config.gram_width, mode="mean")
        self.out = nn.Linear(config.gram_width, config.width)
        nn.init.normal_(self.grams.weight, std=0.02)  # what is never met says nearly nothing

    def forward(self, texts: Sequence[str]) -> Tensor:
        """[text, width]."""
        bags = [buckets_of(text, self.buckets) for text in texts]
        starts = torch.tensor([0, *(len(bag) for bag in bags[:-1])]).cumsum(0)
        flat = torch.tensor([bucket for bag in bags for bucket in bag], dtype=torch.long)
        place = self.out.weight.device
        return F.normalize(self.out(self.grams(flat.to(place), starts.to(place))), dim=-1)


class TowersNetwork(nn.Module):
    """All that is learnt: MiniLM itself is not among it."""

    def __init__(self, config: TowersConfig) -> None:
        super().__init__()
        self.config = config
        self.audio = AudioTower(config)
        self.grams = GramTower(config)
        self.projection = nn.Linear(WIDTH, config.width, bias=False)  # of MiniLM's vectors

    def projected(self, meanings: Tensor) -> Tensor:
        """MiniLM's vectors [row, 384] -> [row, width], of unit length."""
        return F.normalize(self.projection(meanings), dim=-1)


class Towers:
    """Texts and sounds as vectors of one space. `embed` may be called from any thread, one at a time."""

    def __init__(self, network: TowersNetwork, minilm: MiniLM | None) -> None:
        """
        Args:
            network: whose weights are used.
            minilm: what reads texts beside the n-grams; without it, these do alone.
        """
        self.network, self.minilm = network.eval().requires_grad_(False), minilm
        self.config = network.config
        self._embedded = lru_cache(CACHED)(self._embed)

    @property
    def dimension(self) -> int:
        """Of the vectors."""
        return self.config.width

    @property
    def hears(self) -> str:
        """What reads texts: "minilm", beside the n-grams, or "n-grams" alone."""
        return "n-grams" if self.minilm is None else "minilm"

    def apart(self) -> list[Towers]:
        """By what users may have: these, and where they read with MiniLM, the n-grams that every pack carries."""
        return [self] if self.minilm is None else [self, Towers(self.network, None)]

    def embed(self, text: str) -> Tensor:
        """[width], of unit length; zeros where `text` asks for nothing. Kept for texts that come again."""
        return self._embedded(plain(text)).clone()

    @torch.no_grad()
    def embed_audio(self, audio: Tensor) -> Tensor:
        """Sounds [row, sample] at `config.sample_rate`, mono -> [row, width], of unit length; a second or so is best.

        Raises:
            ValueError: a sound has no samples.
        """
        if audio.dim() != 2 or not audio.shape[1]:
            raise ValueError(f"sounds are {list(audio.shape)}: give [row, sample], with samples")
        heard: Tensor = self.network.audio(audio)
        return heard

    @torch.no_grad()
    def _embed(self, text: str) -> Tensor:
        if not asks(text):
            return torch.zeros(self.config.width)
        typed: Tensor = self.network.grams([text])[0]
        if self.minilm is None:
            return typed
        return F.normalize(self.network.projected(self.minilm([text]))[0] + typed, dim=0)


def load_towers(tensors: Mapping[str, Tensor], config: TowersConfig, minilm: MiniLM | None = None) -> Towers:
    """The towers of a pack, with MiniLM where it is installed.

    Args:
        tensors: a pack's, of which those that begin with PREFIX are meant.
        config: their sizes.
        minilm: to read texts with, where it has been read already.

    Raises:
        PackError: they do not fit; names what does not.
    """
    given = part(tensors, PREFIX)
    with torch.device("meta"):
        wanted = TowersNetwork(config).state_dict()
    if wrong := mismatches(wanted, given, PREFIX):
        raise PackError(wrong)
    network = TowersNetwork(config)
    network.load_state_dict(given)
    return Towers(network, minilm or minilm_if_there())


def minilm_if_there() -> MiniLM | None:
    """MiniLM, where it is installed and is the one that packs are made with."""
    try:
        return read_minilm()
    except MiniLMMissing:
        return None


def plain(text: str) -> str:
    """A text as both towers read it: letters in their usual form, without control characters and doubled blanks."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def asks(text: str) -> bool:
    """Whether a text asks for anything: it has a letter or a digit."""
    return any(each.isalnum() for each in text)


def grams(text: str) -> list[str]:
    """Every word, and its n-grams: "bass" is "=bass", "<ba", "bas", "ass", "ss>", "<bas", ..."""
    found = []
    for word in re.findall(r"\w+", plain(text)):
        marked = f"<{word}>"
        found.append(f"={word}")
        found += [
            marked[start : start + length]
            for length in range(SHORTEST, LONGEST + 1)
            for start in range(len(marked) - length + 1)
        ]
    return found


def buckets_of(text: str, buckets: int) -> list[int]:
    """The buckets of its n-grams, the same on every machine; one at least, for where there is none."""
    return [crc32(gram.encode()) % buckets for gram in grams(text)] or [0]
