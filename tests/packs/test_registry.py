"""Packs are found by name in the places of DESIGN 10, and loaded once."""

from pathlib import Path

import pytest
import torch

from backline.models.errors import PackError
from backline.packs.pack import write_pack
from backline.packs.registry import PackNotFound, PackRegistry, PackState

CONFIG = {"version": "1", "family": "passthrough", "description": "an echo", "license": "Apache-2.0"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "backline" / "packs"


def test_the_passthrough_comes_with_backline() -> None:
    entry = PackRegistry().entry("passthrough")
    assert entry.state is PackState.AVAILABLE
    assert entry.spec is not None
    assert entry.spec.input_rate is None


def test_packs_are_found_in_the_users_folder_and_in_folders_that_are_asked_for(home: Path, tmp_path: Path) -> None:
    write_pack(home / "mine", {**CONFIG, "name": "mine"}, {})
    write_pack(tmp_path / "many" / "one", {**CONFIG, "name": "one"}, {})
    write_pack(tmp_path / "alone", {**CONFIG, "name": "alone"}, {})
    found = {entry.name for entry in PackRegistry([tmp_path / "many", tmp_path / "alone"]).entries()}
    assert {"alone", "mine", "one", "passthrough"} <= found


def test_the_first_place_wins(home: Path, tmp_path: Path) -> None:
    write_pack(home / "echo", {**CONFIG, "name": "echo", "version": "user"}, {})
    write_pack(tmp_path / "asked" / "echo", {**CONFIG, "name": "echo", "version": "asked"}, {})
    pack = PackRegistry([tmp_path / "asked"]).entry("echo").pack
    assert pack is not None
    assert pack.version == "asked"


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        PackNotFound, match=r"no pack 'pasthrough': did you mean 'passthrough'\? The packs here are: .*passthrough"
    ):
        PackRegistry().entry("pasthrough")


def test_every_load_builds_a_model_and_none_is_kept() -> None:
    registry = PackRegistry()
    assert registry.load("passthrough") is not registry.load("passthrough")
    assert registry.entry("passthrough").state is PackState.AVAILABLE


def test_a_damaged_pack_is_listed_with_its_problem_and_the_others_still_load(home: Path) -> None:
    write_pack(home / "torn", {**CONFIG, "name": "torn"}, {"a.b": torch.zeros(100)})
    (home / "torn" / "a.safetensors").write_bytes(b"torn")
    registry = PackRegistry()
    entry = registry.entry("torn")
    assert entry.state is PackState.DAMAGED
    assert "a.safetensors is damaged" in entry.problem
    with pytest.raises(PackError, match=r"pack 'torn' cannot be loaded: a\.safetensors is damaged"):
        registry.load("torn")
    registry.load("passthrough")


def test_damage_that_only_the_hash_shows_is_remembered_until_repaired(home: Path) -> None:
    write_pack(home / "bent", {**CONFIG, "name": "bent"}, {"a.b": torch.zeros(100)})
    path = home / "bent" / "a.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\1")
    registry = PackRegistry()
    assert registry.entry("bent").state is PackState.AVAILABLE
    with pytest.raises(PackError, match="has changed"):
        registry.load("bent")
    assert registry.entry("bent").state is PackState.DAMAGED
    path.write_bytes(whole)
    registry.load("bent")
    assert registry.entry("bent").state is PackState.AVAILABLE
