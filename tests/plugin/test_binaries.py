"""What the shipped binaries weigh, need and show."""

import shutil
import subprocess
from pathlib import Path

import pytest

LARGEST = 1_400_000  # bytes, more than half of them TLS
LIBRARIES = ("libc.so", "libm.so", "libstdc++.so", "libgcc_s.so", "libnghttp2.so")
LOADER = "ld-linux"  # named where a thread's own variables are reached through it
ENTRIES = {"clap": {"clap_entry"}, "vst3": {"GetPluginFactory", "ModuleEntry", "ModuleExit"}}


def tool(name: str, *arguments: str | Path) -> str:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed (Debian: sudo apt install binutils)")
    return subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=["clap", "vst3"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def binary(form: str, request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("clap_file" if form == "clap" else "vst3_binary")
    return path


def test_a_plugin_is_light(binary: Path) -> None:
    assert binary.stat().st_size < LARGEST


def test_a_plugin_is_stripped(binary: Path) -> None:
    sections = tool("readelf", "--sections", "--wide", binary)
    assert ".dynsym" in sections
    assert ".symtab" not in sections
    assert ".debug_info" not in sections


def test_a_plugin_needs_no_libraries_but_these(binary: Path) -> None:
    lines = tool("readelf", "--dynamic", "--wide", binary).splitlines()
    needed = [line.split("[")[1].rstrip("]") for line in lines if "(NEEDED)" in line]
    assert needed
    assert [name for name in needed if not name.startswith((*LIBRARIES, LOADER))] == []


def test_a_plugin_shows_its_entry_points_and_nothing_else(form: str, binary: Path) -> None:
    lines = tool("nm", "--dynamic", "--defined-only", binary).splitlines()
    assert {line.split()[-1] for line in lines} == ENTRIES[form]
