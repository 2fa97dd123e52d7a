"""A pack is read whole or not at all, and whatever is wrong with it is said at once."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backline.models import families
from backline.models.errors import PackError
from backline.packs import toml
from backline.packs.pack import load_stream, read_manifest, read_pack, read_tensors, write_pack

CONFIG: dict[str, Any] = {
    "name": "echo",
    "version": "1",
    "family": "passthrough",
    "description": "an echo",
    "license": "Apache-2.0",
    "passthrough": {"ports": ["left", "right"]},
}


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "codec.weight": torch.randn(3, 5).t(),
        "codec.half": torch.randn(7).to(torch.bfloat16),
        "semantic.table": torch.arange(10),
    }


def problems(folder: Path) -> tuple[str, ...]:
    with pytest.raises(PackError) as raised:
        read_pack(folder)
    return raised.value.problems


def test_a_written_pack_reads_back_the_same(tmp_path: Path) -> None:
    written = write_pack(tmp_path / "echo", CONFIG, tensors())
    pack = read_pack(tmp_path / "echo")
    assert pack == written
    assert {file.path for file in pack.files} == {"codec.safetensors", "semantic.safetensors"}
    read = read_tensors(pack)
    assert read.keys() == tensors().keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors().items())


def test_a_pack_without_weights_serves(tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "echo", CONFIG, {})
    stream = load_stream(pack)
    assert [port.name for port in stream.spec.ports] == ["left", "right"]
    assert pack.spec() == stream.spec


def test_writing_replaces_a_pack_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_pack(tmp_path / "echo", CONFIG, tensors())
    write_pack(tmp_path / "echo", {**CONFIG, "version": "2"}, {})
    assert read_pack(tmp_path / "echo").version == "2"
    assert [path.name for path in tmp_path.rglob("*")] == ["echo", "pack.toml"]


def test_a_failed_write_leaves_the_old_pack(tmp_path: Path) -> None:
    write_pack(tmp_path / "echo", CONFIG, tensors())
    with pytest.raises(TypeError, match="TOML holds"):
        write_pack(tmp_path / "echo", {**CONFIG, "card": {"made": object()}}, {})
    assert read_pack(tmp_path / "echo").version == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["echo"]


def test_missing_weights_are_named_with_the_folder_they_belong_into(tmp_path: Path) -> None:
    write_pack(tmp_path / "echo", CONFIG, tensors())
    (tmp_path / "echo" / "codec.safetensors").unlink()
    (problem,) = problems(tmp_path / "echo")
    assert "codec.safetensors is missing" in problem
    assert str(tmp_path / "echo") in problem


@pytest.mark.parametrize("kept", [0, 4, 8, 40, 300])
def test_a_truncated_file_is_found_without_hashing(tmp_path: Path, kept: int) -> None:
    write_pack(tmp_path / "echo", CONFIG, {"codec.weight": torch.zeros(1000)})
    path = tmp_path / "echo" / "codec.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PackError, match=r"codec\.safetensors is damaged"):
        read_manifest(tmp_path / "echo")


def test_one_changed_bit_is_found(tmp_path: Path) -> None:
    write_pack(tmp_path / "echo", CONFIG, tensors())
    path = tmp_path / "echo" / "codec.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (problem,) = problems(tmp_path / "echo")
    assert "codec.safetensors has changed since the pack was made" in problem


@pytest.mark.parametrize("header", [b"[]", b'{"a": {}}', b'{"a": {"data_offsets": [0, "x"]}}', b"\xff\xff"])
def test_a_file_with_a_foolish_header_is_damaged(tmp_path: Path, header: bytes) -> None:
    write_pack(tmp_path / "echo", CONFIG, tensors())
    (tmp_path / "echo" / "codec.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert "no safetensors header" in problems(tmp_path / "echo")[0]


def test_every_problem_of_a_pack_is_reported_at_once(tmp_path: Path) -> None:
    said = {
        "format": 2,
        "name": "No Name!",
        "version": 3,
        "family": "polka",
        "files": [
            {"path": "../codec.safetensors", "sha256": "0" * 64},
            {"path": "gone.safetensors", "sha256": "0" * 64},
            {"path": "codec.pt", "sha256": "short"},
        ],
    }
    (tmp_path / "pack.toml").write_text(toml.dumps(said))
    found = problems(tmp_path)
    for part in (
        "format is 2",
        "'No Name!'",
        "version is 3",
        "'polka'",
        "description",
        "license",
        "../codec",
        "gone",
        "short",
    ):
        assert any(part in problem for problem in found), (part, found)


def test_a_folder_without_a_manifest_is_no_pack(tmp_path: Path) -> None:
    assert "there is no pack.toml" in problems(tmp_path)[0]
    (tmp_path / "pack.toml").write_text("name = ")
    assert "not valid TOML" in problems(tmp_path)[0]


def test_a_tensor_in_two_files_is_a_problem(tmp_path: Path) -> None:
    write_pack(tmp_path / "echo", CONFIG, {"codec.weight": torch.zeros(3)})
    folder = tmp_path / "echo"
    (folder / "again.safetensors").write_bytes((folder / "codec.safetensors").read_bytes())
    said = tomllib.loads((folder / "pack.toml").read_text())
    said["files"].append({**said["files"][0], "path": "again.safetensors"})
    (folder / "pack.toml").write_text(toml.dumps(said))
    with pytest.raises(PackError, match=r"repeats tensor 'codec\.weight'"):
        read_tensors(read_pack(folder))


def test_a_family_nobody_knows_is_named() -> None:
    with pytest.raises(
        PackError, match="family is 'polka': this Backline serves codec, demucs, duotok, hafm, mge, pass"
    ):
        families.describe({"family": "polka"})


LEAVES = (
    st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), VALUES, max_size=4))
def test_toml_reads_back_what_was_written(table: dict[str, Any]) -> None:
    assert tomllib.loads(toml.dumps(table)) == json.loads(json.dumps(table))
