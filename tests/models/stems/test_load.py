"""A stems pack: what does not fit is named before anything plays; what fits separates."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.codecs.hubert import hubert_names
from backline.models import families
from backline.models.errors import PackError
from backline.models.stems.load import load, tiny_random
from backline.models.stems.separator import StemsSeparator
from backline.models.stream import ChunkInput, ChunkOutput, SessionConfig
from backline.models.windowed.offline import separate_file
from backline.models.windowed.separator import Separated, Window
from backline.models.windowed.settings import make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from backline.packs.pack import load_stream, read_pack, write_pack
from tests.support.hcodec_checkpoint import HUBERT, hubert_checkpoint
from tests.support.playing import play, running

SESSION: dict[str, Any] = {"chunk_seconds": Fraction(24, 25), "visibility_seconds": 1.44, "sample_rate": 48_000}


def test_a_pack_says_without_weights_what_it_will_serve() -> None:
    config, tensors = tiny_random()
    spec = load(config, tensors, "cpu").spec
    assert spec == families.describe(config)
    assert [port.name for port in spec.ports] == ["vocals", "drums", "bass", "other"]
    assert spec.frame_rate == Fraction(25, 2)


def test_a_pack_from_disk_separates_as_its_separator_does_the_whole_file(tmp_path: Path) -> None:
    config, tensors = tiny_random()
    write_pack(tmp_path / "tiny-stems", config, tensors)
    stream = load_stream(read_pack(tmp_path / "tiny-stems"))
    assert isinstance(stream, WindowedStream)
    audio = (0.2 * np.random.default_rng(0).standard_normal((2, 100_000))).astype(np.float32)
    with running(stems=stream) as engine:
        heard = play(engine, "stems", audio, 4_096, **SESSION)
    found = np.stack([heard.audio(port) for port in range(4)])
    windows = Windows(192_000, 46_080, 23_040, 1_920, 3_840)
    expected = separate_file(stream.separator, audio, windows, make_finish(stream.settings, {}))
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found.sum(axis=0) - audio).max() < 1e-5


@pytest.mark.parametrize(
    ("table", "changes", "problem"),
    [
        ("stream", {"guard_seconds": "1/2"}, "guard_seconds is 0.5: use a multiple of 0.08 s"),
        ("stream", {"guard_seconds": 0}, "guard_seconds is 0: use a multiple"),
        ("stream", {"guard_seconds": "2"}, "use less than half of the window of 4 s"),
        ("stream", {"chunk_seconds": 1}, "chunk_seconds is 1: use a multiple of 0.08 s, a frame, up to 3.04 s"),
        ("stream", {"fade_seconds": "1/10"}, "fade_seconds is 0.1: use more than 0, up to 0.08 s"),
        ("stream", {"consistency": 3}, "consistency is 3: use 0 to 2"),
        ("stream", {"mask_exponent": 0}, "mask_exponent is 0"),
        ("stream", {"transients": 2}, "transients is 2: use 0 to 1"),
        ("stream", {"hop": 1, "guard_seconds": "soon"}, r"unknown entries \['hop'\].*guard_seconds is 'soon'"),
        ("codec", {"kind": "encodec"}, "kind is 'encodec': use hcodec"),
        ("codec", {"depth": 3}, r"unknown entries \['depth'\]"),
        ("codec", {"codebooks": 4}, "tells 2 codebooks of 16, the codec has 4 of 16"),
        ("stems", {"hops_per_frame": 2}, "hears frames of 1920 samples at 48000 Hz, the codec's have 3840"),
        ("stems", {"order": "random"}, "order is 'random'"),
        ("stems", {"stems": ["vocals", "Vocals"]}, "'vocals' and 'Vocals' are one name"),
        ("stems", {"stems": []}, "list 1 to 32 of them"),
        ("stems", {"window_frames": 12}, "use less than half of the window of 0.96 s"),
    ],
)
def test_what_the_tables_get_wrong_is_named(table: str, changes: dict[str, Any], problem: str) -> None:
    config, _ = tiny_random()
    config[table] = {**config.get(table, {}), **changes}
    with pytest.raises(PackError, match=problem):
        families.describe(config)


def playing(
    stream: WindowedStream, audio: NDArray[np.float32], parameters: Callable[[int], dict[str, float]]
) -> NDArray[np.float32]:
    """What a session [track, channel, sample] plays whose parameters may change from chunk to chunk."""
    given = {parameter.name: parameter.default for parameter in stream.spec.parameters}
    row = stream.open(SessionConfig(48_000, len(audio), Fraction(24, 25), 1.44, seed=1, parameters=given))
    heard, fed = [], 0
    for chunk in range(3):
        needed = stream.required_input(row)
        asked = ChunkInput(row, audio[:, fed:needed], None, given | parameters(chunk))
        fed = needed
        (answer,) = stream.step([asked])
        assert isinstance(answer, ChunkOutput)
        heard.append(np.stack(answer.audio))
    stream.close(row)
    return np.concatenate(heard, axis=2)


def test_two_tracks_and_a_shorter_window_are_a_matter_of_the_table(tmp_path: Path) -> None:
    config, tensors = tiny_random(stems=("vocals", "band"), window_frames=40)
    write_pack(tmp_path / "tiny-stems", config, tensors)
    stream = load_stream(read_pack(tmp_path / "tiny-stems"))
    assert isinstance(stream, WindowedStream)
    assert [port.name for port in stream.spec.ports] == ["vocals", "band"]
    assert stream.spec == families.describe(config)
    assert "transients" not in {parameter.name for parameter in stream.spec.parameters}  # there are no drums
    audio = (0.2 * np.random.default_rng(0).standard_normal((2, 200_000))).astype(np.float32)
    found = playing(stream, audio, lambda chunk: {})
    windows = Windows(40 * 3_840, 46_080, 23_040, 1_920, 3_840)
    expected = separate_file(stream.separator, audio, windows, make_finish(stream.settings, {}))
    assert found.shape[0] == 2
    assert np.abs(found - expected[..., : found.shape[2]]).max() < 1e-5


def test_readout_and_phase_are_the_sessions_and_by_default_the_packs() -> None:
    config, tensors = tiny_random()
    stream = load(config, tensors, "cpu")
    defaults = {parameter.name: parameter.default for parameter in stream.spec.parameters}
    assert (defaults["readout"], defaults["phase"]) == (0.0, 0.0)
    mean = load({**config, "stems": {**config["stems"], "readout": "mean", "phase": "mixture"}}, tensors, "cpu")
    audio = (0.2 * np.random.default_rng(0).standard_normal((1, 200_000))).astype(np.float32)
    raw = {"consistency": 0.0}
    codes, asked, own = (
        playing(stream, audio, lambda chunk: raw),
        playing(stream, audio, lambda chunk: raw | {"readout": 1.0, "phase": 1.0}),
        playing(mean, audio, lambda chunk: raw),
    )
    assert np.array_equal(asked, own)
    assert np.abs(codes - own).max() > 1e-3
    assert np.array_equal(playing(mean, audio, lambda chunk: raw | {"readout": 0.0, "phase": 0.0}), codes)
    # The paper's own way is nothing but the codec's decoder on the likeliest codes.
    separator = stream.separator
    assert isinstance(separator, StemsSeparator)
    window = np.pad(audio[:, :69_120], ((0, 0), (192_000 - 69_120, 0)))
    (told,) = separator.separate([Window(0, window, separator.silence(), 18)])
    assert isinstance(told, Separated)
    with torch.inference_mode():
        decoded = separator.codec.decode(torch.from_numpy(told.history.codes)).numpy()
    assert np.abs(codes[..., :40_000] - decoded[..., 192_000 - 69_120 :][..., :40_000]).max() < 1e-5


def test_a_parameter_that_changes_while_playing_is_faded_in_with_the_next_chunk() -> None:
    config, tensors = tiny_random()
    stream = load(config, tensors, "cpu")
    audio = (0.2 * np.random.default_rng(0).standard_normal((1, 200_000))).astype(np.float32)
    ways: list[dict[str, float]] = [
        {"readout": 0.0, "phase": 0.0, "consistency": 0.0},
        {"readout": 1.0, "phase": 1.0, "consistency": 1.0},
    ]
    first, second = (playing(stream, audio, lambda chunk, way=way: way) for way in ways)  # type: ignore[misc]
    changing = playing(stream, audio, lambda chunk: ways[chunk > 0])
    hop, fade = 46_080, 1_920
    assert np.array_equal(changing[..., :hop], first[..., :hop])
    assert np.abs(changing[..., hop + fade :] - second[..., hop + fade :]).max() < 1e-6
    weights = np.sin(0.5 * np.pi * (np.arange(fade) + 0.5) / fade)
    share = weights / (weights + weights[::-1])
    between = (1 - share) * first[..., hop : hop + fade] + share * second[..., hop : hop + fade]
    # Within the fade the old way is that of the window before, which `first` gives way to with its own next one.
    assert np.abs(np.diff(changing[..., hop - 1 : hop + fade + 1])).max() <= 1.5 * np.abs(np.diff(between)).max()


def test_a_network_that_listens_through_hubert_brings_it_along(tmp_path: Path) -> None:
    config, tensors = tiny_random(listener="hubert", hubert_width=HUBERT.dimension)
    with pytest.raises(PackError, match=r"no HuBERT base for this network: .* is missing"):
        load(config, tensors, "cpu")
    heard = {f"stems.hubert.{name}": value for name, value in hubert_names(hubert_checkpoint(), HUBERT).items()}
    write_pack(tmp_path / "tiny-stems", config, tensors | heard)
    stream = load_stream(read_pack(tmp_path / "tiny-stems"))
    plain_bytes = load(*tiny_random(), "cpu").resident_bytes()
    assert stream.resident_bytes() > plain_bytes + sum(value.nbytes for value in heard.values()) // 2
    assert isinstance(stream, WindowedStream)
    audio = (0.2 * np.random.default_rng(0).standard_normal((1, 200_000))).astype(np.float32)
    louder = playing(stream, audio, lambda chunk: {"consistency": 0.0})
    assert np.isfinite(louder).all()
    assert louder.any()


def test_tensors_that_do_not_fit_are_named_at_once() -> None:
    config, tensors = tiny_random()
    del tensors["stems.start"]
    codec = next(name for name in tensors if name.startswith("codec."))
    tensors[codec] = tensors[codec][..., None]
    with pytest.raises(PackError, match=rf"(?s)stems.start \[16\] is missing.*{codec}"):
        load(config, tensors, "cpu")


def windows_of_all_kinds(separator: Any) -> list[Window]:
    """Mono, stereo and more, every readout and phase, and other numbers of known frames."""
    random = np.random.default_rng(0)
    length = separator.window_frames * separator.frame_samples
    said = separator.silence()
    asked = [{}, {"readout": 1.0}, {"phase": 1.0}, {"readout": 1.0, "phase": 1.0}]
    return [
        Window(row, (0.2 * random.standard_normal((1 + row, length))).astype(np.float32), said, 10 + 11 * row, wanted)
        for row, wanted in enumerate(asked)
    ]


def test_rows_that_share_a_call_are_as_alone_and_one_that_fails_ends_alone() -> None:
    separator: Any = load(*tiny_random(), "cpu").separator
    separator.step = None  # it takes one row
    windows = windows_of_all_kinds(separator)
    expected = separator.separate(windows)
    calls, hear = [], separator.network.hear
    separator.network.hear = lambda audio: calls.append(len(audio)) or hear(audio)
    separator.batches = True
    found = separator.separate(windows)
    assert calls == [4]
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one.history.codes, other.history.codes)
        np.testing.assert_allclose(one.estimates, other.estimates, atol=1e-5)
    windows[2] = replace(windows[2], audio=windows[2].audio[:, :-100])
    answers = separator.separate(windows)
    assert isinstance(answers[2], Exception)
    for row in (0, 1, 3):
        np.testing.assert_allclose(answers[row].estimates, expected[row].estimates, atol=1e-5)
