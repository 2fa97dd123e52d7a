"""The whole CLAP plugin in a host with real threads (plugin_client/tests/clap_host.cpp), also under sanitizers."""

from pathlib import Path

import pytest

from tests.plugin.native import build, run

RESTLESS = ("--restless", "1", "--instances", "3", "--seconds", "4")


@pytest.mark.slow
def test_the_audio_thread_neither_allocates_nor_locks_nor_waits(plugins: Path, clap_file: Path, address: str) -> None:
    folder = build(plugins, "", "clap_host", "realtime_guard")
    guarded = {"BACKLINE_ADDRESS": address, "LD_PRELOAD": str(folder / "realtime_guard.so")}
    plays = ("--set", "Pack=passthrough", "--await", "20", "--paced", "1", "--seconds", "2", "--restless", "1")
    run(folder / "clap_host", clap_file, *plays, environment=guarded)


@pytest.fixture(scope="module", params=["thread", "address"])
def sanitized(request: pytest.FixtureRequest, plugins: Path) -> tuple[Path, Path]:
    """Host and plugin, built for a sanitizer."""
    folder = build(plugins, request.param, "backline_clap", "clap_host")
    return folder / "clap_host", folder / "backline.clap"


@pytest.mark.slow
def test_no_sanitizer_has_anything_to_report_without_a_server(sanitized: tuple[Path, Path], tmp_path: Path) -> None:
    run(*sanitized, *RESTLESS, environment={"BACKLINE_ADDRESS": f"unix:{tmp_path}/none.sock"})


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["--paced", "--offline"])
def test_no_sanitizer_has_anything_to_report_through_a_server(
    sanitized: tuple[Path, Path], address: str, mode: str
) -> None:
    plays = ("--set", "Pack=passthrough", "--await", "5", mode, "1")
    run(*sanitized, *RESTLESS, *plays, environment={"BACKLINE_ADDRESS": address})
