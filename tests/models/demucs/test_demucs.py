"""A Demucs of its authors' package becomes a pack that separates as the package does; what is none is refused."""

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backline.models import families
from backline.models.demucs.load import load
from backline.models.errors import PackError
from backline.models.stream import Audio
from backline.models.windowed.consistency import OFF
from backline.models.windowed.offline import separate_file
from backline.models.windowed.separator import Window
from backline.models.windowed.settings import make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from backline.packs.importers.demucs import import_demucs
from backline.packs.pack import Pack, load_stream, read_pack, read_tensors
from tests.support.demucs_checkpoint import SEGMENT, make_demucs, write_demucs
from tests.support.playing import play, running

RATE, STEP = 44_100, 1024
PORTS = ("vocals", "drums", "bass", "other")
DESCRIPTION: dict[str, Any] = {
    "name": "x",
    "family": "demucs",
    "demucs": {"kind": "HTDemucs", "tracks": ["a", "b"], "window_frames": 86, "arguments": {"sources": ["a", "b"]}},
    "stream": {"chunk_seconds": "5376/11025", "guard_seconds": "2048/11025", "fade_seconds": "256/11025"},
}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    folder = tmp_path_factory.mktemp("demucs")
    return import_demucs(write_demucs(folder / "955717e8.th"), folder / "pack").pack


@pytest.fixture(scope="module")
def stream(pack: Pack) -> WindowedStream:
    loaded = load_stream(read_pack(pack.folder))
    assert isinstance(loaded, WindowedStream)
    return loaded


def music(samples: int, channels: int = 2) -> Audio:
    noise = np.random.default_rng(0).standard_normal((channels, samples)).astype(np.float32)
    return 0.2 * noise * np.exp(-8 * (np.arange(samples, dtype=np.float32) / RATE % 0.37))


def test_a_window_is_what_the_package_makes_of_it(stream: WindowedStream) -> None:
    model, _ = make_demucs()
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    audio = music(stream.separator.window_frames * STEP)
    (told,) = stream.separator.separate([Window(0, audio, stream.separator.silence(), 86)])
    heard = torch.from_numpy(audio)
    scaled = (heard - heard.mean()) / heard.std()
    with torch.inference_mode():  # as it was trained: padded to its segment
        padded = torch.nn.functional.pad(scaled, _beside(audio.shape[1]))
        whole = model(padded[None])[0] * heard.std() + heard.mean()
    expected = whole[..., _beside(audio.shape[1])[0] :][..., : audio.shape[1]].numpy()
    by_name = dict(zip(model.sources, expected, strict=True))
    for track, found in zip(PORTS, told.estimates, strict=True):  # type: ignore[union-attr]
        assert np.abs(by_name[track]).max() > 1e-3
        np.testing.assert_allclose(found, by_name[track], atol=1e-5)


def _beside(samples: int) -> tuple[int, int]:
    missing = SEGMENT * RATE - samples
    return missing // 2, missing - missing // 2


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_stream_gives_what_the_whole_file_gives(stream: WindowedStream, channels: int) -> None:
    audio = music(2 * RATE, channels)
    settings = stream.settings
    hop, guard = (int(length * RATE) for length in (settings.chunk_seconds, settings.guard_seconds))
    windows = Windows(stream.separator.window_frames * STEP, hop, guard, STEP, STEP)
    expected = separate_file(stream.separator, audio, windows, make_finish(settings, {"consistency": OFF}))
    session = {"chunk_seconds": settings.chunk_seconds, "visibility_seconds": (hop + guard) / RATE}
    with running(demucs=stream) as engine:
        heard = play(engine, "demucs", audio, 4_096, sample_rate=RATE, **session, parameters={"consistency": OFF})
    found = np.stack([heard.audio(port) for port in range(4)])
    assert found.shape == expected.shape == (4, channels, 2 * RATE)
    assert np.abs(found - expected).max() < 1e-5


def test_its_ports_are_in_the_order_of_other_separators(pack: Pack, stream: WindowedStream) -> None:
    assert tuple(port.name for port in stream.spec.ports) == PORTS
    assert stream.spec == families.describe(pack.config)
    assert pack.name == "htdemucs"


def test_a_name_that_tells_its_checksum_is_checked(tmp_path: Path) -> None:
    file = write_demucs(tmp_path / "tiny-00000000.th")
    (warning,) = import_demucs(file, tmp_path / "pack").warnings
    assert "is not the official HTDemucs checkpoint" in warning
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert not import_demucs(file.rename(tmp_path / f"tiny-{checksum}.th"), tmp_path / "pack").warnings


def test_files_that_are_none_are_refused_with_what_to_give(tmp_path: Path) -> None:
    make_demucs()
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.th")
    with pytest.raises(PackError, match=r"no model of Demucs: give a single HTDemucs .* 955717e8-8726e21a.th"):
        import_demucs(tmp_path / "other.th", tmp_path / "pack")
    (tmp_path / "text.th").write_text("nothing")
    with pytest.raises(PackError, match=r"text\.th"):
        import_demucs(tmp_path / "text.th", tmp_path / "pack")
    with pytest.raises(PackError, match="there is no such file"):
        import_demucs(tmp_path / "absent.th", tmp_path / "pack")
    content = torch.load(write_demucs(tmp_path / "a.th"), weights_only=False)
    name = next(iter(content["state"]))
    content["state"][name] = torch.zeros(3)
    torch.save(content, tmp_path / "b.th")
    with pytest.raises(PackError, match=rf"{name} is \[3\], must be"):
        import_demucs(tmp_path / "b.th", tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_a_pack_is_described_without_the_package_and_says_what_it_needs_to_play(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "demucs", None)
    monkeypatch.setitem(sys.modules, "demucs.htdemucs", None)
    monkeypatch.setitem(sys.modules, "demucs.hdemucs", None)
    assert [port.name for port in families.describe(DESCRIPTION).ports] == ["a", "b"]
    with pytest.raises(PackError, match="pip install demucs"):
        load(DESCRIPTION, {}, "cpu")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tracks": ["vocals", "drums", "bass"]}, "tracks are vocals, drums, bass, its arguments say drums, bass"),
        ({"sample_rate": 48_000}, "sample_rate is 48000, its arguments say 44100"),
        ({"window_frames": 200}, "window_frames is 200: use up to 86"),
        ({"kind": "Demucs"}, "kind is 'Demucs': use one of HTDemucs, HDemucs"),
    ],
)
def test_tables_that_do_not_fit_the_network_are_named(pack: Pack, changes: dict[str, Any], problem: str) -> None:
    config = {**pack.config, "demucs": {**pack.config["demucs"], **changes}}
    if "sample_rate" in changes:
        config["stream"] = {"chunk_seconds": "64/125", "guard_seconds": "64/375", "fade_seconds": "8/375"}
    with pytest.raises(PackError, match=problem):
        load(config, read_tensors(pack), "cpu")


@pytest.mark.parametrize("arguments", [{"segment": "1e999999999"}, {"depth": -3}, {"channels": "many"}, {}])
def test_arguments_that_make_no_network_are_refused(pack: Pack, arguments: dict[str, Any]) -> None:
    given = {**pack.config["demucs"]["arguments"], **arguments} if arguments else {}
    config = {**pack.config, "demucs": {**pack.config["demucs"], "arguments": given}}
    with pytest.raises(PackError, match="make no HTDemucs"):
        load(config, read_tensors(pack), "cpu")
