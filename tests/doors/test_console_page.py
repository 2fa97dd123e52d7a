"""The console's page: its protobuf beside Python's, and all of it in a headless Chromium."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

pytest.importorskip("uvicorn")

from backline.doors.console.door import ConsoleDoor
from backline.doors.osc import OscDoor
from backline.service.server import start_server
from backline_client import Client
from backline_protos.v1 import backline_pb2 as pb
from tests.doors.conftest import LIVE
from tests.plugin.server_process import in_time
from tests.support.browser import PROGRAM, WHY_NOT, Browser
from tests.support.console_server import ConsoleServer, console_server
from tests.support.ear import BATCH_SECONDS, Ear, figures, try_it
from tests.support.osc import Controller

RATE = 48_000
BUFFER_MS = 250  # of playback: the machine that tests is busy with much else


@pytest.fixture(scope="module")
def server() -> Iterator[ConsoleServer]:
    with console_server() as server:
        yield server


# ---- protobuf ------------------------------------------------------------------------------------------------

MESSAGES = (pb.ClientMessage, pb.ServerMessage)
EXACT = 2**53 - 1
SCRIPT = """
(async (cases) => {
  const {Wire} = await import("/wire.js");
  const wire = new Wire(await (await fetch("/schema.json")).json());
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const bytes = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const plain = (name, value) => typeof value === "bigint" ? {big: String(value)}
    : value instanceof Uint8Array ? {hex: hex(value)} : value;
  const answers = cases.map(([type, text]) => {
    try {
      const message = wire.decode(type, bytes(text));
      return {message, again: hex(wire.encode(type, message))};
    } catch (error) {
      return {error: error.message};
    }
  });
  return JSON.stringify(answers, plain);
})
"""


def in_the_page(server: ConsoleServer, cases: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """What wire.js makes of bytes: the message, and the bytes that it writes of that."""
    with Browser() as page:
        page.open(server.url)
        told = page.run(f"{SCRIPT}({json.dumps([[kind, data.hex()] for kind, data in cases])})")
    answers: list[dict[str, Any]] = json.loads(told)
    return answers


def scalar(field: FieldDescriptor, draw: random.Random) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return draw.random() < 0.5
        case FieldDescriptor.TYPE_DOUBLE:
            return draw.choice([0.0, -0.5, 1e300, 5e-324, draw.uniform(-1e6, 1e6)])
        case FieldDescriptor.TYPE_STRING:
            return draw.choice(["", "gain", "ü ♪ 𝄞", "x" * 200])
        case FieldDescriptor.TYPE_BYTES:
            return draw.randbytes(draw.choice([0, 1, 300]))
        case FieldDescriptor.TYPE_INT64:
            return draw.choice([0, 1, -1, 2**53, -(2**63), 2**63 - 1, draw.getrandbits(40)])
        case FieldDescriptor.TYPE_UINT64:
            return draw.choice([0, 1, 2**53 + 1, 2**64 - 1, draw.getrandbits(40)])
        case FieldDescriptor.TYPE_UINT32:
            return draw.choice([0, 127, 128, 2**32 - 1])
        case FieldDescriptor.TYPE_ENUM:
            return draw.randrange(3)
    raise AssertionError(field.type)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def fill(message: Message, draw: random.Random) -> Message:
    """Fields as they may come: some, all, zeros, and the largest there are; one of an envelope's."""
    fields = list(message.DESCRIPTOR.fields)
    if type(message) in MESSAGES:
        fields = [draw.choice(fields)]
    for field in fields:
        if len(fields) > 1 and draw.random() < 0.3:
            continue
        target = getattr(message, field.name)
        if is_map(field):
            value = field.message_type.fields_by_name["value"]
            target.update({f"k{number}": scalar(value, draw) for number in range(draw.randrange(3))})
        elif isinstance(target, Message):
            target.SetInParent()
            fill(target, draw)
        elif hasattr(target, "add"):
            for _ in range(draw.randrange(3)):
                fill(target.add(), draw)
        elif hasattr(target, "extend"):
            target.extend([scalar(field, draw) for _ in range(draw.randrange(4))])
        else:
            setattr(message, field.name, scalar(field, draw))
    return message


def plain(message: Message) -> dict[str, Any]:
    """A message as the page has it, by Python's own reading."""

    def value_of(value: Any) -> Any:
        if isinstance(value, Message):
            return plain(value)
        if isinstance(value, bytes):
            return {"hex": value.hex()}
        if isinstance(value, int) and abs(value) > EXACT:
            return {"big": str(value)}
        return value

    found = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if is_map(field):
            found[field.name] = {key: value_of(each) for key, each in value.items()}
        elif hasattr(value, "extend"):
            found[field.name] = [value_of(each) for each in value]
        elif not field.has_presence or message.HasField(field.name):
            found[field.name] = value_of(value)
    return found


@pytest.mark.hosts
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_the_page_reads_and_writes_what_python_does(server: ConsoleServer) -> None:
    draw = random.Random(0)
    messages = [fill(kind(), draw) for kind in MESSAGES for _ in range(400)]
    kinds = {message.WhichOneof("message") for message in messages}
    assert {"open", "audio", "control", "ready", "error"} <= kinds
    cases = [(message.DESCRIPTOR.name, message.SerializeToString()) for message in messages]
    for message, answer in zip(messages, in_the_page(server, cases), strict=True):
        assert answer["message"] == plain(message)
        assert type(message).FromString(bytes.fromhex(answer["again"])) == message


@pytest.mark.hosts
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_the_page_refuses_what_is_no_message_and_passes_over_what_is_new(server: ConsoleServer) -> None:
    whole = pb.ServerMessage(error=pb.Error(status=3, message="no"))
    newer = (
        whole.SerializeToString()
        + b"\xf8\x3f\x05"
        + b"\xfa\x3f\x02hi"
        + b"\xf9\x3f"
        + bytes(8)
        + b"\xfd\x3f"
        + bytes(4)
    )
    cut = [whole.SerializeToString()[:size] for size in range(1, whole.ByteSize())]
    wrong = [b"\x3d" + bytes(4), b"\x80" * 20, b"\x3b", b"\x3a\x01"]
    answers = in_the_page(server, [("ServerMessage", data) for data in [newer, *cut, *wrong]])
    assert answers[0]["message"] == plain(whole)
    assert all("error" in answer for answer in answers[1:]), answers


# ---- the page ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of noise, which the browser hears over and over."""
    path = tmp_path_factory.mktemp("microphone") / "noise.wav"
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 4 * RATE)
    soundfile.write(path, noise, RATE, subtype="PCM_16")
    return path


@contextmanager
def without_a_word(page: Browser, server: ConsoleServer | ConsoleDoor) -> Iterator[None]:
    """Afterwards the console has said nothing, and the page has asked nobody but its server."""
    yield
    assert page.errors == []
    own = (server.url, server.url.replace("http", "ws"), "about:", "data:")
    assert [each for each in page.requests if not each.startswith(own)] == []


def fits(page: Browser) -> bool:
    return bool(page.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


@pytest.mark.hosts
@pytest.mark.paced
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_a_microphone_is_heard_at_the_latency_that_is_shown(server: ConsoleServer, microphone: Path) -> None:
    with Browser(microphone) as page, without_a_word(page, server):
        ear = Ear(page)
        with in_time(server.process):
            played = try_it(page, ear, server.url, "passthrough", seconds=12.0, buffer_ms=BUFFER_MS)
            assert played.dropouts == 0, played
            assert len(played.lags) > 10, played
            # The two windows are looked at one after the other, between which the browser may have gone on.
            off = played.lags - played.shown
            assert np.abs(off).max() < BATCH_SECONDS, played
            assert np.abs(off).min() < 0.003, played
            assert played.likeness.min() > 0.999, played
        with Client(server.address) as client:
            (session,) = client.sessions()
            assert session.client_name == "browser"
            page.tab_to("#try-steering input")
            page.press("ArrowLeft")
            page.run("location.hash = '#sessions'")
            page.until("document.querySelector('#session-list output')?.textContent === '0.99'")
            page.until("document.querySelectorAll('#session-list .part').length >= 4")
            page.tab_to("#session-list button")
            page.press("Enter")
            page.until("document.querySelector('#session-list').childElementCount === 0")
            assert client.sessions() == []


@pytest.mark.hosts
@pytest.mark.paced
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_a_file_is_played_to_its_end(server: ConsoleServer, microphone: Path) -> None:
    with Browser() as page, without_a_word(page, server):
        page.open(f"{server.url}/#try")
        page.until("document.querySelector('#try-pack').options.length")
        page.run("document.querySelector('#try-pack').value = 'passthrough'")
        page.run("document.querySelector('input[value=file]').click()")
        page.choose_file("#file", microphone)
        page.until("document.querySelector('#drop-text').textContent === 'noise.wav'")
        page.tab_to("#go")
        page.press("Enter")
        page.until("document.querySelector('#go').textContent === 'Stop'")
        page.until("document.querySelector('#go').textContent === 'Play'", 20)
        assert float(figures(page)["Played"].removesuffix(" s")) >= 4
        assert page.text("#problem p") == ""
        with Client(server.address) as client:
            assert client.sessions() == []


@pytest.mark.hosts
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_every_view_fits_and_is_reached_by_the_keyboard(server: ConsoleServer) -> None:
    with Browser() as page, without_a_word(page, server):
        page.open(server.url)
        page.until("!document.querySelector('#no-sessions').hidden")
        for view, title in (("sessions", "Sessions"), ("packs", "Packs"), ("try", "Try it")):
            page.tab_to(f"nav a[href='#{view}']")
            page.press("Enter")
            page.until(f"document.title === '{title}, Backline'")
            assert (
                page.run("[...document.querySelectorAll('main > section')].filter((each) => !each.hidden).length") == 1
            )
            for width in (360, 800, 1_600):
                page.resize(width, 900)
                assert fits(page), (view, width)
        page.run("location.hash = '#packs'")
        page.tab_to("button[aria-label='Unload passthrough']")
        page.press("Enter")
        page.until("document.querySelector('button[aria-label=\"Load passthrough\"]')?.ariaDisabled === 'false'")
        page.press("Enter")
        page.until("document.querySelector('button[aria-label=\"Unload passthrough\"]')?.ariaDisabled === 'false'")
        page.tab_to("#pack-list article:first-child summary")
        page.press("Enter")  # of the default pack, which comes first
        page.until("document.querySelectorAll('.card-text img').length > 1")
        assert page.until("[...document.querySelectorAll('.card-text img')].every((image) => image.naturalWidth > 100)")


@pytest.mark.hosts
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_text_stands_out_in_both_themes(server: ConsoleServer) -> None:
    """Contrast by WCAG: of every text 4.5 to 1 at least, against what lies behind it."""
    contrasts = """
    (() => {
      const channels = (color) => color.match(/[\\d.]+/g).map(Number);
      const light = (color) => {
        const linear = (c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const [r, g, b] = channels(color).map((each) => linear(each / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
          const color = getComputedStyle(each).backgroundColor;
          if ((channels(color)[3] ?? 1) > 0) return color;
        }
        return "rgb(255, 255, 255)";
      };
      const texts = [...document.querySelectorAll("body *")].filter((each) => each.offsetParent !== null &&
        !each.disabled && [...each.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
      return texts.map((each) => {
        const [one, other] = [light(getComputedStyle(each).color), light(behind(each))];
        return [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), each.outerHTML.slice(0, 80)];
      });
    })()
    """
    with Browser() as page:
        for theme in ("light", "dark"):
            page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
            for view in ("sessions", "packs", "try"):
                page.open(f"{server.url}/#{view}")
                page.until(f"document.querySelector('#view-{view}').offsetHeight > 0")
                found = page.run(contrasts)
                assert len(found) > 5
                assert [each for each in found if each[0] < 4.5] == [], theme


SET = """
[[scene]]
name = "soft"
tempo = 240
parameters = { gain = 0.5 }
[[scene]]
name = "loud"
[[scene]]
name = "broken"
visibility = -9
"""


@pytest.mark.hosts
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_a_set_list_on_the_servers_card_is_led_by_the_keyboard(card: None, tmp_path: Path) -> None:
    """The page shows the scenes and brings them on the bar; it shows MIDI, and learns a knob."""
    (tmp_path / "set.toml").write_text(SET)
    opened = threading.Event()
    osc, console = (
        OscDoor("127.0.0.1:0", LIVE, announce=False),
        ConsoleDoor("127.0.0.1:0", on_open=lambda url: opened.set()),
    )
    state, scene = "document.querySelector('#card-list [role=status]')?.textContent", "#card-list .scenes button"
    with (
        start_server(device="cpu", load=["passthrough"], doors=[osc, console], drain_seconds=0.1),
        Browser() as page,
        without_a_word(page, console),
    ):
        assert opened.wait(20)
        with Controller(osc.port) as controller:
            scenes = ["scenes", str(tmp_path / "set.toml"), "jitter_buffer", 1.0]
            controller.ask("/open", "passthrough", "band", *scenes, "midi_in", "Knobs")
            first = controller.ask("/session/band/id")
            page.open(console.url)
            page.until(f"{state} === 'Now soft, next loud'")
            assert page.run(f"[...document.querySelectorAll('{scene}')].map((each) => each.textContent)") == [
                "soft", "loud", "broken",
            ]  # fmt: skip
            page.tab_to("#card-list header button")
            page.press("Enter")
            page.until(f"{state} === 'Now loud, next broken'")
            heard = controller.ask_until("/session/band/id", lambda values: values != first)
            assert controller.ask("/scene") == ["loud"]
            page.tab_to(f"{scene}[aria-current]")
            page.press("Tab")
            page.press(" ")  # of the one that does not open
            page.until("document.querySelector('#problem p').textContent.toLowerCase().includes('visibility is -9 s')")
            assert page.run(state) == "Now loud, next broken"
            assert controller.ask("/session/band/id") == heard
            figures = "#card-list .midi"
            page.until(f"document.querySelector('{figures}').textContent.includes('Knobs:Knobs MIDI 1')")
            page.until(f"document.querySelector('{figures}').textContent.includes('cc21 = ')")
            page.tab_to("#card-list .midi-in button")
            page.press("Enter")
            page.until(
                "document.querySelector('#card-list .midi-in [role=status]').textContent === "
                "'Learned: next time, --map cc21=gain'"
            )
            page.until(f"document.querySelector('{figures}').textContent.includes('cc21=gain')")
            assert controller.ask("/session/band/midi/map") == ["cc21=gain"]
            for width in (360, 800, 1_200):
                page.resize(width, 900)
                assert fits(page), width
            assert controller.ask("/session/band/close") == ["closed"]
            page.until("document.querySelector('#card-list').childElementCount === 0")
            page.errors.remove(next(each for each in page.errors if "409" in each or "429" in each))


ASKED = """
(async () => {
  const {showOnCard} = await import("/on-card.js?another");  // which the page's own looks do not reach
  const pending = {}, failures = [], soon = () => new Promise((done) => setTimeout(done));
  globalThis.fetch = (path) => new Promise((answered) => {
    (pending[path] ??= []).push((message) => answered({ok: false, status: 409, json: async () => ({message})}));
  });
  const midi = {ports: [{name: "Knobs", open: true}], map: [], newest: ""};
  const band = {name: "band", pack: "own", scenes: ["soft", "loud"], now: 0, coming: null, midi};
  const packs = new Map([["own", {parameters: [{name: "gain", automatable: true}]}]]);
  showOnCard([band], packs, (error) => failures.push(error.message));
  const learn = document.querySelector("#card-list .midi-in button");
  document.querySelectorAll("#card-list .scenes button")[1].click();
  learn.click();
  learn.click();
  pending["/on-card/band/scene/2"][0]("loud does not open");
  pending["/on-card/band/learn/gain"][0]("something else was asked for");
  await soon();
  const told = () => [...failures, document.querySelector("#card-list .midi-in [role=status]").textContent];
  const before = told();
  pending["/on-card/band/learn/gain"][1]("no controller has moved yet");
  await soon();
  return [before, told()];
})()
"""


@pytest.mark.hosts
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_a_scene_that_does_not_come_is_told_though_a_knob_is_learned_meanwhile(server: ConsoleServer) -> None:
    with Browser() as page:
        page.open(server.url)
        before, after = page.run(ASKED)
    assert before == ["Loud does not open.", "Move a knob or fader: the first that moves leads gain"]
    assert after == ["Loud does not open.", "No controller has moved yet.", ""]


NOTE_PROBLEMS = """
window.problems = [];
new MutationObserver(() => problems.push(document.querySelector('#problem p').textContent))
    .observe(document.querySelector('#problem'), {childList: true, subtree: true, characterData: true});
"""


@pytest.mark.hosts
@pytest.mark.skipif(PROGRAM is None, reason=WHY_NOT)
def test_what_goes_wrong_is_told_in_plain_words() -> None:
    with console_server("--max-sessions=1") as server, Client(server.address) as client, Browser() as page:
        page.open(f"{server.url}/#try")
        page.until("document.querySelector('#try-pack').options.length")
        page.run("document.querySelector('#try-pack').value = 'passthrough'")

        def told(words: str) -> None:
            page.until(f"document.querySelector('#problem p').textContent.includes({json.dumps(words)})")
            assert page.text("#try-state") == "Not playing"

        page.run("document.querySelector('input[value=file]').click()")
        page.run("document.querySelector('#go').click()")
        told("Choose a file first, or drop one.")
        page.choose_file("#file", Path(__file__))
        page.run("document.querySelector('#go').click()")
        told("test_console_page.py holds no sound that this browser can read.")
        page.run("document.querySelector('input[value=microphone]').click()")
        with client.open("passthrough", RATE, channels=2, block_size=512):
            page.run("document.querySelector('#go').click()")
            told("All 1 sessions are taken: close one")
        page.run("document.querySelector('#visibility').value = ''")
        page.run("document.querySelector('#go').click()")
        page.until("document.querySelector('#try-state').textContent.startsWith('Playing')")
        assert len(client.sessions()) == 1
        page.run(NOTE_PROBLEMS)
        server.process.terminate()
        page.until("document.querySelector('#problem p').textContent.includes('Is it still running?')")
        assert page.run("problems.some(problem => problem.includes('The server is shutting down.'))")
        assert page.text("#try-state") == "Not playing"
