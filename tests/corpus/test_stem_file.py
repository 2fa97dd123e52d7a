"""Stems keep every sample, however loud they are and however they come."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from backline.corpus.stem_file import StemFile, to_integers
from backline.ffmpeg import NoSound


def written(path: Path, *blocks: np.ndarray) -> tuple[np.ndarray, int]:
    """[channel, sample] as it stands in the file, and its scale."""
    file = StemFile(path, blocks[0].shape[0])
    for block in blocks:
        file.write(block)
    file.finish()
    assert file.samples == soundfile.info(path).frames
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T, file.scale


@given(st.lists(st.integers(-(2**23), 2**23 - 1), min_size=1, max_size=50))
def test_samples_of_16_and_24_bits_are_kept(tmp_path_factory: pytest.TempPathFactory, samples: list[int]) -> None:
    audio = (np.array([samples, samples[::-1]]) / 2**23).astype(np.float32)
    found, scale = written(tmp_path_factory.mktemp("stem") / "a.flac", audio)
    assert scale == 1
    np.testing.assert_array_equal(found, audio)


def test_what_is_louder_than_full_scale_is_written_quieter_with_all_that_came_before(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    blocks = [(loud * draw.uniform(-1, 1, (2, 1000))).astype(np.float32) for loud in (0.9, 1.9, 0.1, 5.0, 0.5)]
    found, scale = written(tmp_path / "a.flac", *blocks)
    assert scale == 8
    assert np.abs(found).max() < 1
    np.testing.assert_allclose(scale * found, np.concatenate(blocks, axis=1), atol=3 * scale / 2**23)
    assert [path.name for path in tmp_path.iterdir()] == ["a.flac"]


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    file = StemFile(tmp_path / "a.flac", 1)
    with pytest.raises(NoSound, match=r"1e\+30 times full scale"):
        file.write(np.full((1, 10), 1e30, np.float32))
    file.discard()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StemFile(tmp_path / "a.flac", 1)
    full = OSError(28, "No space left on device")

    def write(data: bytes) -> int:
        file._disk.failure = full
        return 0

    monkeypatch.setattr(file._disk, "write", write)
    with pytest.raises(OSError, match="No space left"):
        file.write(np.random.default_rng(0).uniform(-1, 1, (1, 480_000)).astype(np.float32))
    file.discard()


def test_integers_are_those_of_24_bits() -> None:
    np.testing.assert_array_equal(
        to_integers(np.float32([-1, -0.5, 0, 2**-23, 1])), [-(2**23), -(2**22), 0, 1, 2**23 - 1]
    )
