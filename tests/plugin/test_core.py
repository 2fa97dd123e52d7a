"""The plugin's core, without any plugin format: alone, against a real server, and under what finds broken promises."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.plugin import native
from tests.plugin.drive import CONNECTING, FAILED, PLAYING, driver, played_exactly
from tests.plugin.server_process import server_process

CHECKS = (
    "a_ring_passes_everything_on_in_order",
    "the_output_ring_equals_a_map_of_positions",
    "the_output_ring_serves_two_threads",
    "a_state_comes_back_and_nothing_else_is_one",
    "of_a_state_with_names_beyond_us_all_else_comes_back",
    "a_bank_holds_what_is_suggested_until_somebody_writes_into_it",
    "a_bank_comes_back_with_its_project",
    "text_comes_back_as_the_value_and_the_same_text",
    "a_text_is_utf_8_of_512_bytes_and_nothing_else",
    "slots_are_the_packs_own_values_by_name",
    "without_a_server_dry_comes_at_the_reported_latency",
    "without_a_server_nothing_waits",
    "a_reset_forgets_what_is_under_way",
    "what_cannot_be_served_is_refused",
    "who_pulls_faster_than_time_is_found_and_nobody_else",
    "a_session_is_wanted_by_those_who_play",
    "what_moves_settles_by_the_song_or_by_the_clock",
    "every_status_says_what_to_do_within_what_vst3_shows",
    "of_midi_that_finds_no_room_no_end_of_a_note_is_lost",
    "what_is_held_is_told_to_another_session",
    "who_is_told_what_is_held_knows_all",
)


@pytest.mark.parametrize("check", CHECKS)
def test_holds_without_a_server(built: Path, check: str) -> None:
    native.run(built / "core_test", check)


def test_every_check_is_run(built: Path) -> None:
    listed = subprocess.run([built / "core_test", "list"], capture_output=True, text=True, check=True).stdout
    assert sorted(listed.split()) == sorted(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_a_bounce_is_bit_exact_at_exactly_the_reported_latency(
    built: Path, tmp_path: Path, served_address: str, rate: int
) -> None:
    with driver(built, tmp_path, served_address) as drive:
        drive.say("offline", 1)
        latency = drive.activate(rate, seconds=0.1)
        audio = drive.run(2 * rate, -1500, 0)
        assert drive.status() == PLAYING
    assert latency == round(0.1 * rate)
    assert not audio[:latency, 2:].any()
    assert played_exactly(audio, latency).all()


@pytest.mark.slow
@pytest.mark.paced
def test_paced_output_is_bit_exact_once_it_plays_and_the_audio_thread_keeps_the_real_time_rule(
    built: Path, tmp_path: Path, served_address: str
) -> None:
    with driver(built, tmp_path, served_address, LD_PRELOAD=str(built / "realtime_guard.so")) as drive:
        latency = drive.activate(48_000, seconds=2.0)
        assert int(drive.say("await", PLAYING, 10, 128)) >= 0
        drive.run(latency + 4_800, 128, 1)  # until what came before the session has left
        audio = drive.run(3 * latency, -512, 1)
    assert played_exactly(audio, latency).all()


def test_the_guard_of_the_real_time_rule_notices(built: Path) -> None:
    done = subprocess.run(
        [built / "drive"],
        input="provoke\n",
        text=True,
        capture_output=True,
        check=False,
        env={**os.environ, "LD_PRELOAD": str(built / "realtime_guard.so")},
    )
    assert done.returncode == -signal.SIGABRT
    assert "the audio thread called malloc" in done.stderr


@pytest.mark.slow
@pytest.mark.paced
def test_dry_while_the_server_is_gone_and_back_within_two_seconds_in_its_place(built: Path, tmp_path: Path) -> None:
    served = f"unix:{tmp_path}/socket"
    with driver(built, tmp_path, served) as drive:
        with server_process(served) as server:
            latency = drive.activate(48_000, seconds=0.5)
            assert int(drive.say("await", PLAYING, 10, 128)) >= 0
            server.kill()
            server.wait()
        assert int(drive.say("await", CONNECTING, 2, 128)) >= 0
        drive.run(2 * latency, 128, 1)
        dry = drive.run(2 * latency, 128, 1)
        assert (dry[latency:, 2:4] == dry[:-latency, :2]).all()
        assert not dry[:, 4:].any()
        with server_process(served):
            listening = time.monotonic()
            assert int(drive.say("await", PLAYING, 2, 128)) >= 0
            assert time.monotonic() - listening < 2
            drive.run(2 * latency, 128, 1)
            audio = drive.run(2 * latency, 128, 1)
            assert played_exactly(audio, latency).all()


@pytest.mark.slow
@pytest.mark.paced
def test_a_server_that_stood_still_catches_up(built: Path, tmp_path: Path) -> None:
    served = f"unix:{tmp_path}/socket"
    with driver(built, tmp_path, served) as drive, server_process(served) as server:
        latency = drive.activate(48_000, seconds=0.5)
        assert int(drive.say("await", PLAYING, 10, 128)) >= 0
        server.send_signal(signal.SIGSTOP)
        missed = drive.run(96_000, 128, 1)
        server.send_signal(signal.SIGCONT)
        assert not played_exactly(missed, latency)[-24_000:].any()
        drive.run(48_000, 128, 1)
        assert played_exactly(drive.run(48_000, 128, 1), latency).all()
        assert drive.say("status").split()[1] == "1", "sessions: it is the same one"


@pytest.mark.slow
def test_a_bounce_whose_server_goes_away_says_so_and_goes_on_dry(built: Path, tmp_path: Path) -> None:
    served = f"unix:{tmp_path}/socket"
    with driver(built, tmp_path, served) as drive:
        drive.say("offline", 1)
        with server_process(served) as server:
            latency = drive.activate(48_000, seconds=0.1)
            assert played_exactly(drive.run(48_000, 512, 0), latency).all()
            server.kill()
            server.wait()
        audio = drive.run(48_000, 512, 0)
        assert drive.status() == FAILED
        assert (audio[-latency:, 2:4] == audio[-2 * latency : -latency, :2]).all()
        assert float(drive.say("deactivate")) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_sanitizers_find_nothing(plugins: Path, tmp_path: Path, served_address: str, sanitizer: str) -> None:
    folder = native.build(plugins, sanitizer, "core_test", "drive")
    for check in CHECKS:
        native.run(folder / "core_test", check)
    with driver(folder, tmp_path, served_address) as drive:
        drive.activate(48_000, seconds=1.0)
        assert int(drive.say("await", PLAYING, 20, 512)) >= 0
        drive.run(96_000, -512, 1)
        drive.run(192_000, -512, 0)  # faster than time, and not said
        drive.say("offline", 1)
        latency = 48_000
        assert played_exactly(drive.run(192_000, -512, 0), latency)[48_000:].all()
        drive.say("deactivate")
