"""Whole programs: the server as a process, the demo, the soak run, and the README's example."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from backline.cli.connection import server_process
from backline.cli.phrase import sung_phrase
from backline_client import Client
from tests.cli.test_commands import Backline

ROOT = Path(__file__).parent.parent.parent


def test_a_server_process_serves_on_a_free_port_and_ends_in_order() -> None:
    with server_process([], cores=1) as server:
        with Client(server.address) as client:
            assert client.stats().version
        server.process.terminate()
        assert server.process.wait(timeout=30) == 0


def test_the_readmes_example_runs(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    example, _ = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "127.0.0.1:50505" in example
    exec(example.replace("127.0.0.1:50505", address), {})
    assert "'main': (2, 48000)" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.paced
def test_the_demo_leaves_audio_a_picture_and_a_table(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    phrase = sung_phrase()
    phrase = replace(phrase, audio=phrase.audio[:, : 4 * phrase.rate])  # it is played in real time
    monkeypatch.setattr("backline.cli.phrase.sung_phrase", lambda: phrase)
    said = backline("demo", "--pack", "passthrough", "--folder", tmp_path)
    assert said.code == 0, said.err
    for row in ("real-time factor", "chunk latency", "end-to-end latency", "late chunks", "peak"):
        assert row in said.out
    for name in ("vocal", "accompaniment", "mix"):
        audio, rate = soundfile.read(tmp_path / f"{name}.wav")
        assert (audio.shape[0], rate) == (phrase.audio.shape[1], phrase.rate)
        assert abs(audio).max() > 0.1
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.paced
def test_the_soak_run_measures_and_judges(tmp_path: Path) -> None:
    report = tmp_path / "soak.json"
    command = [sys.executable, str(ROOT / "bench" / "soak.py"), "--minutes", "0.05", "--pack", "passthrough"]
    ended = subprocess.run([*command, "--json", str(report)], capture_output=True, text=True, check=False)
    figures = json.loads(report.read_text())
    over = [bar for bar in figures["bars"].values() if bar["measured"] > bar["at_most"]]
    assert ended.returncode == (1 if over else 0), ended.stderr
    assert figures["chunks"] == 300
