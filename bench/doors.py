"""Whether the doors cost anything: echoes, and a pack that plays live, with all of them open and somebody at each.

    python bench/doors.py --minutes 2 --json doors.json

A server with OSC, the console and the metrics open; a controller that has subscribed to all sessions, a WebSocket that
listens to figures of the server, and four times a second a page's call and a scrape of the figures. Fails where an echo
takes P50_BAR, or a chunk of the pack comes late.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from urllib.error import URLError

import numpy as np
import soundfile
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_message_builder import OscMessageBuilder
from pythonosc.osc_server import ThreadingOSCUDPServer
from roundtrip import P50_BAR, measure
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from backline.cli.connection import server_process
from backline.cli.phrase import sung_phrase
from backline.doors.peers import LEASE_SECONDS
from backline_client import Client

OSC, HTTP, METRICS = "127.0.0.1:9077", "127.0.0.1:8077", "127.0.0.1:9477"
SUBSCRIBED = ("/*", "/session/*/*", "/session/*/*/*")
LISTENED = ("/server/chunks", "/server/load", "/server/uptime")
LOOK_SECONDS = 0.25
ECHO_SECONDS = 15.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long the pack plays (default: 2)")
    parser.add_argument("--pack", default="default", help="what plays live meanwhile (default: default)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    known = parser.parse_args()
    doors = ["--osc", OSC, "--http", HTTP, "--metrics", METRICS]
    loads = ["--load", known.pack, "--load", "passthrough"]
    with (
        tempfile.TemporaryDirectory() as scratch,
        server_process([], load_limit=None, options=[*doors, *loads]) as server,
        visitors() as seen,
        Client(server.address) as client,
    ):
        alone = measure(client, "nobody plays", ECHO_SECONDS)
        playing = live(server.address, known.pack, 60 * known.minutes, Path(scratch))
        beside = measure(client, f"{known.pack} plays", ECHO_SECONDS)
        said, _ = playing.communicate()
    print(said.strip())
    figures = {"echoes": [asdict(alone), asdict(beside)], "seen": seen, "live": said.strip().splitlines()}
    for each in (alone, beside):
        print(f"{each.name}: echo p50 {each.p50 * 1000:.2f} ms, p99 {each.p99 * 1000:.2f} ms of {each.echoes}")
    by_osc, by_http = f"{seen['osc']} and {seen['websocket']} messages", f"{seen['http']}, {seen['metrics']}"
    print(f"seen by OSC, and by its WebSocket: {by_osc}; by the page and the figures: {by_http}")
    if known.json:
        known.json.write_text(json.dumps(figures, indent=2) + "\n")
    failed = max(alone.p50, beside.p50) >= P50_BAR or ", 0 late," not in said or not all(seen.values())
    print("over the bar" if failed else "within the bars")
    return int(failed)


@contextmanager
def visitors() -> Iterator[dict[str, int]]:
    """Somebody at each door; how much each of them has been told."""
    seen, over = {"osc": 0, "websocket": 0, "http": 0, "metrics": 0}, threading.Event()

    def count(door: str) -> None:
        seen[door] += 1

    dispatcher = Dispatcher()
    dispatcher.set_default_handler(lambda *_: count("osc"))
    controller = ThreadingOSCUDPServer(("127.0.0.1", 0), dispatcher)
    host, _, port = OSC.partition(":")

    def send(address: str, *arguments: str) -> None:
        builder = OscMessageBuilder(address)
        for argument in arguments:
            builder.add_arg(argument)
        controller.socket.sendto(builder.build().dgram, (host, int(port)))

    def stay() -> None:
        while not over.is_set():  # the door may still be about to open
            for pattern in SUBSCRIBED:
                send("/subscribe", pattern)
            over.wait(LEASE_SECONDS / 3)

    def listen() -> None:
        while not over.wait(LOOK_SECONDS):
            with suppress(OSError, ConnectionClosed), connect(f"ws://{OSC}/") as socket:
                for address in LISTENED:
                    socket.send(json.dumps({"COMMAND": "LISTEN", "DATA": address}))
                while not over.is_set():
                    with suppress(TimeoutError):
                        socket.recv(timeout=LOOK_SECONDS)
                        count("websocket")

    def look() -> None:
        asked = {"Content-Type": "application/json"}
        call = urllib.request.Request(f"http://{HTTP}/backline.v1.Backline/GetStats", b"{}", asked)
        places: dict[str, str | urllib.request.Request] = {"http": call, "metrics": f"http://{METRICS}/metrics"}
        while not over.wait(LOOK_SECONDS):
            for door, wanted in places.items():
                with suppress(URLError), urllib.request.urlopen(wanted, timeout=10) as answer:
                    answer.read()
                    count(door)

    threads = [threading.Thread(target=work, daemon=True) for work in (controller.serve_forever, stay, listen, look)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        controller.shutdown()
        for thread in threads:
            thread.join()


def live(address: str, pack: str, seconds: float, folder: Path) -> subprocess.Popen[str]:
    """`backline live` from file to file, over and over the same phrase."""
    phrase = sung_phrase()
    voice, band = folder / "voice.wav", folder / "band.wav"
    heard = np.arange(int(seconds * phrase.rate)) % phrase.audio.shape[1]
    soundfile.write(voice, phrase.audio[:, heard].T, phrase.rate)
    heard_as = ["--input", str(voice), "--output", str(band), "--tempo", str(phrase.transport.tempo)]
    command = [sys.executable, "-m", "backline.cli.main", "live", "--server", address, "--pack", pack, *heard_as]
    return subprocess.Popen(
        [*command, "--jitter-buffer", "0.02"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


if __name__ == "__main__":
    sys.exit(main())
