"""A small host drives the .vst3 as hosts do, and as they should not (plugin_client/tests/vst3_host.cpp)."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from backline.models.passthrough import PassthroughStream
from backline.models.stream import ChunkInput, ChunkOutput
from backline.service.server import start_server
from tests.plugin.native import build, run

ALONE = [
    "factory",
    "interfaces",
    "buses",
    "parameters",
    "rates_and_blocks",
    "buffers",
    "flush",
    "restart",
    "retimed",
    "curves",
    "ardour",
    "remedies",
    "latency_by_rate",
    "transports",
    "states",
    "many_instances",
    "threads",
]
SERVED = [
    "server_offline",
    "server_offline_by_call",
    "server_slow_bounce",
    "server_sidechain",
    "server_automation",
    "server_seed",
    pytest.param("server_realtime", marks=pytest.mark.paced),
    "server_threads",
]


@pytest.fixture(scope="module")
def host(plugins: Path) -> Path:
    return build(plugins, "", "vst3_host") / "vst3_host"


@pytest.fixture(scope="module", params=["thread", "address"])
def sanitized(request: pytest.FixtureRequest, plugins: Path, vst3_binary: Path) -> tuple[Path, Path]:
    """Host and plugin, built for a sanitizer."""
    folder = build(plugins, request.param, "backline_vst3", "vst3_host")
    return folder / "vst3_host", folder / vst3_binary.relative_to(plugins)


@pytest.mark.parametrize("check", ALONE)
def test_holds_without_a_server(host: Path, vst3_binary: Path, check: str, tmp_path: Path) -> None:
    run(host, vst3_binary, check, environment={"BACKLINE_ADDRESS": f"unix:{tmp_path}/none"})


@pytest.mark.parametrize("check", SERVED)
def test_holds_through_a_server(host: Path, vst3_binary: Path, check: str, served_address: str) -> None:
    run(host, vst3_binary, check, environment={"BACKLINE_ADDRESS": served_address})


@pytest.mark.slow
@pytest.mark.parametrize("check", [*ALONE, *SERVED])
def test_no_sanitizer_has_anything_to_report(sanitized: tuple[Path, Path], check: str, served_address: str) -> None:
    run(*sanitized, check, environment={"BACKLINE_ADDRESS": served_address})


@pytest.mark.slow
@pytest.mark.paced
def test_a_bounce_waits_for_a_server_that_takes_four_times_real_time(
    host: Path, vst3_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 60_000 / 48_000  # that the check plays
    step = PassthroughStream.step

    def slow_step(stream: PassthroughStream, inputs: Sequence[ChunkInput]) -> list[ChunkOutput]:
        outputs = step(stream, inputs)
        time.sleep(4.0 * max(output.audio[0].shape[1] for output in outputs) / 48_000)
        return outputs

    with start_server(device="cpu", load=["passthrough"]) as server:
        monkeypatch.setattr(PassthroughStream, "step", slow_step)
        begin = time.monotonic()
        run(host, vst3_binary, "server_slow_bounce", environment={"BACKLINE_ADDRESS": server.address})
    assert time.monotonic() - begin >= 4.0 * 0.7 * seconds, "the server was slow; what is due last it need not play"
