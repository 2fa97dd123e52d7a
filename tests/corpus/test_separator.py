"""A pack separates songs of any length as it would in a session, and what comes out lies under what went in."""

from collections.abc import Iterator

import numpy as np
import pytest

from backline.corpus.manifest import CorpusError
from backline.corpus.separator import Separator, stem_ports
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.windowed.settings import WindowedSettings
from backline.models.windowed.stream import WindowedStream
from backline.sound_files import Audio
from tests.support.bands import BandSeparator

TRACKS = ("vocals", "drums", "bass", "other")


def blocks(audio: Audio, size: int) -> Iterator[Audio]:
    for start in range(0, audio.shape[1], size):
        yield audio[:, start : start + size]


def separated(stream: object, audio: Audio, size: int) -> dict[str, Audio]:
    parts = list(Separator(stream, "pack 1").separate(blocks(audio, size), audio.shape[0]))  # type: ignore[arg-type]
    return {label: np.concatenate([part[label] for part in parts], axis=1) for label in parts[0]}


def noise(samples: int, channels: int = 2) -> Audio:
    return (0.1 * np.random.default_rng(0).standard_normal((channels, samples))).astype(np.float32)


@pytest.mark.parametrize("size", [48_000, 1_111])
def test_stems_lie_under_the_mix(size: int) -> None:
    audio = noise(100_001)
    found = separated(PassthroughStream(PassthroughConfig(ports=("vocals", "accompaniment"))), audio, size)
    assert list(found) == ["vocals", "instrumental"]
    for stem in found.values():
        np.testing.assert_array_equal(stem, audio)


def test_stems_of_a_windowed_separator_sum_to_the_mix_whatever_the_blocks() -> None:
    audio = noise(6 * 48_000 + 777)
    found = [separated(WindowedStream(BandSeparator(), WindowedSettings(), 0), audio, size) for size in (48_000, 7_001)]
    np.testing.assert_allclose(sum(found[0].values()), audio, atol=1e-5)
    for track in TRACKS:
        np.testing.assert_array_equal(found[0][track], found[1][track])


def test_a_pack_without_stems_is_refused() -> None:
    for ports in (("main",), ("drums", "main"), ("drums", "kit"), ("mix", "vocals")):
        with pytest.raises(CorpusError, match="not the stems of a song"):
            stem_ports(PassthroughStream(PassthroughConfig(ports=ports)).spec)
