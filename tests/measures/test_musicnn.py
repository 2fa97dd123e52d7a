"""musicnn's checkpoint is read as TensorFlow writes it, and its network computes what its layers say."""

import struct
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backline.evaluation.voices import recorded
from backline.measures.musicnn import APART, DIMENSIONS, FILES, HOP, PATCH, _files, _wanted, log_mel, read_musicnn
from backline.models.errors import PackError
from backline.packs.importers.tensorflow import MAGIC, read_bundle

Tensors = Mapping[str, NDArray[np.float32]]


def varint(value: int) -> bytes:
    found = b""
    while value >= 0x80:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def block(entries: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A block of a LevelDB table, each key with what it shares with the one before."""
    found, before = b"", b""
    for key, value in entries:
        shared = next((n for n in range(min(len(key), len(before))) if key[n] != before[n]), min(len(key), len(before)))
        found += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return found + struct.pack("<II", 0, 1) + bytes([kind]) + bytes(4)


def bundle(tensors: Tensors, kind: int = 0) -> tuple[bytes, bytes]:
    """Index and data, with a tensor of another type among them."""
    data, entries = b"", [(b"", b"\x08\x01"), (b"global_step", b"\x08\x09\x12\x00\x28\x08")]
    for name, tensor in tensors.items():
        dims = b"".join(b"\x12" + varint(len(dim)) + dim for dim in (b"\x08" + varint(size) for size in tensor.shape))
        entry = b"\x08\x01\x12" + varint(len(dims)) + dims + b"\x20" + varint(len(data))
        entries.append((name.encode(), entry + b"\x28" + varint(tensor.nbytes) + b"\x35" + bytes(4)))
        data += tensor.astype("<f4").tobytes()
    entries.sort()
    first = block(entries, kind)
    index = block([(b"~", varint(0) + varint(len(first) - 5))])
    handle = varint(0) + varint(0) + varint(len(first)) + varint(len(index) - 5)
    return first + index + handle.ljust(40, b"\0") + MAGIC, data


def bundled(index: bytes, data: bytes) -> Tensors:
    return read_bundle(index, lambda shard: data)


def random_weights(seed: int = 0) -> Tensors:
    draw = np.random.default_rng(seed)
    weights = {name: draw.standard_normal(shape).astype(np.float32) * 0.05 for name, shape in _wanted()}
    return {name: np.abs(value) + 0.5 if "variance" in name else value for name, value in weights.items()}


def write(folder: Path, tensors: Tensors) -> Path:
    for name, content in zip(FILES, bundle(tensors), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_tensors_are_read_by_name_shape_and_place() -> None:
    wanted = {"dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "dense/bias": np.float32([7]).reshape(1)}
    found = bundled(*bundle(wanted))
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor)


def test_a_damaged_checkpoint_is_refused() -> None:
    index, data = bundle({"dense/bias": np.zeros(300, np.float32)})
    for broken in (b"", index[:-1], index[:20] + index[-48:], bundle({}, kind=1)[0]):
        with pytest.raises(ValueError):
            bundled(broken, data)
    with pytest.raises(ValueError, match="does not fill its bytes"):
        bundled(index, data[:-4])
    for at in range(len(index)):
        changed = index[:at] + bytes([index[at] ^ 0xFF]) + index[at + 1 :]
        with suppress(ValueError):
            bundled(changed, data)


def slow(patch: NDArray[np.float32], weights: Tensors) -> NDArray[np.float64]:
    """The network as its authors' code has it, by loops: [frame, band] -> [200]."""

    def normed(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        name = f"batch_normalization_{number}" if number else "batch_normalization"
        scale = weights[f"{name}/gamma"] / np.sqrt(weights[f"{name}/moving_variance"] + 1e-3)
        return (values - weights[f"{name}/moving_mean"]) * scale + weights[f"{name}/beta"]

    def convolved(values: NDArray[np.float64], number: int) -> NDArray[np.float64]:
        """[frame, band] -> [frame, place, feature], relu; in time as long as before, in bands where it fits."""
        name = f"conv2d_{number}" if number else "conv2d"
        kernel = weights[f"{name}/kernel"][:, :, 0].astype(np.float64)
        length, width, _ = kernel.shape
        padded = np.pad(values, (((length - 1) // 2, length // 2), (0, 0)))
        places = values.shape[1] - width + 1
        windows = np.lib.stride_tricks.sliding_window_view(padded, (length, width))[:, :places]
        return np.maximum(0.0, np.einsum("tplw,lwf->tpf", windows, kernel, optimize=True) + weights[f"{name}/bias"])

    heard = normed(patch.astype(np.float64)[..., None], 0)[..., 0]
    front = np.concatenate([normed(convolved(heard, n), n + 1).max(axis=1) for n in range(5)], axis=1)
    layers = [front, normed(convolved(front, 5), 6)[:, 0]]
    for number in (6, 7):
        layers.append(normed(convolved(layers[-1], number), number + 1)[:, 0] + layers[-1])
    features = np.concatenate(layers, axis=1)
    pooled = np.stack([features.max(axis=0), features.mean(axis=0)], axis=1).ravel()
    hidden = normed(pooled, 9) @ weights["dense/kernel"] + weights["dense/bias"]
    return normed(np.maximum(0.0, hidden), 10)


def test_the_network_computes_what_its_authors_code_says(tmp_path: Path) -> None:
    weights = random_weights()
    embedding = read_musicnn(write(tmp_path, weights))
    audio = (0.1 * np.random.default_rng(1).standard_normal((PATCH - 1 + APART) * HOP)).astype(np.float32)
    found = embedding.frames(audio)
    assert found.shape == (2, DIMENSIONS)
    spectrogram = log_mel(audio).numpy()
    np.testing.assert_allclose(found[1], slow(spectrogram[APART : APART + PATCH], weights), rtol=1e-3, atol=1e-3)
    assert embedding.frames(audio[: 2 * 16_000]).shape == (0, DIMENSIONS)
    assert embedding.frames(audio[:9]).shape == (0, DIMENSIONS)


def test_the_spectrogram_has_slaneys_bands_of_unit_area() -> None:
    """A sine of amplitude a and frequency f has power (128 a)^2 at its bin; bands are 2/3 semitone-free below 1 kHz."""
    time = np.arange(32_000) / 16_000
    powers = (10 ** log_mel((0.1 * np.sin(2 * np.pi * 500 * time)).astype(np.float32)).numpy() - 1) / 1e4
    edges = 200 / 3 * np.linspace(0, 15 + 27 * np.log(8) / np.log(6.4), 98)  # Hz, as far as 1 kHz
    band = int(np.argmax(powers[30]))
    assert edges[band] < 500 < edges[band + 2]
    assert powers[30].sum() == pytest.approx(1.5 * 12.8**2 * 1 / (edges[1] - edges[0]), rel=0.1)  # window's three bins


def test_what_is_no_musicnn_is_refused_with_what_to_give(tmp_path: Path) -> None:
    weights = dict(random_weights())
    del weights["dense/bias"]
    weights["conv2d/bias"] = np.zeros(3, np.float32)
    with pytest.raises(
        PackError, match=r"conv2d/bias is \[3\], must be \[204\]; dense/bias \[200\] is missing"
    ) as told:
        read_musicnn(write(tmp_path, weights))
    assert "pip download --no-deps musicnn==0.1.0" in str(told.value)
    with pytest.raises(PackError, match="no MTT_musicnn"):
        read_musicnn(tmp_path / "MTT_musicnn")
    (tmp_path / "text.whl").write_text("nothing")
    with pytest.raises(PackError, match="no musicnn"):
        read_musicnn(tmp_path / "text.whl")


def test_a_wheel_is_read_as_its_folder_is(tmp_path: Path) -> None:
    folder = write(tmp_path, random_weights())
    with zipfile.ZipFile(tmp_path / "musicnn.whl", "w") as wheel:
        for name in FILES:
            wheel.write(folder / name, f"musicnn/{name}")
    audio = (0.1 * np.random.default_rng(1).standard_normal(60_000)).astype(np.float32)
    np.testing.assert_array_equal(
        read_musicnn(tmp_path / "musicnn.whl").frames(audio), read_musicnn(folder).frames(audio)
    )


@pytest.mark.weights
def test_the_real_one_hears_people_in_people(musicnn: Path, recordings: Path) -> None:
    """What it says of recordings, by its own last layer."""
    index, data = _files(musicnn)
    embedding, weights = read_musicnn(musicnn), read_bundle(index, lambda shard: data)
    tags = {"classical": 1, "female": 15, "male": 18, "singing": 19, "no vocals": 21}

    def heard(name: str) -> dict[str, float]:
        sound = recorded(recordings, name)
        assert sound is not None
        frames = torch.from_numpy(embedding.frames(sound[::3])) @ torch.tensor(weights["dense_1/kernel"])
        means = torch.sigmoid(frames + torch.tensor(weights["dense_1/bias"])).mean(dim=0)
        return {tag: float(means[number]) for tag, number in tags.items()}

    woman, man, strings = heard("singing_woman"), heard("singing_man"), heard("hungarian_dance")
    assert woman["female"] > 2 * strings["female"]
    assert man["male"] > 2 * max(woman["male"], strings["male"])
    assert strings["classical"] > 2 * max(woman["classical"], man["classical"])
