"""The plugin on another machine's server: TLS, access keys, the file that says them, and how each refusal reads."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from backline.service.access import add_key, revoke_key
from backline.service.gate import Gate, Tls
from backline.service.server import start_server
from backline_client import Client, NotFound
from tests.plugin.drive import DEFAULT, PLAYING, REFUSED, SEED, Drive, driver, played_exactly
from tests.plugin.native import build
from tests.plugin.test_net import Answer, free_port
from tests.support.certificates import Authority
from tests.support.other_user import UID

RATE, BLOCK = 48_000, 512
KEY = "backline_" + 43 * "x"  # nobody's


@dataclass
class Secured:
    """A server with TLS and keys on a port, and plainly at a socket."""

    address: str
    socket: str
    keys: Path

    def key(self, name: str, **limits: object) -> str:
        return add_key(self.keys, name, **limits)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "studio")


@pytest.fixture(scope="module")
def secured(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("keys")
    keys, socket = folder / "access.toml", f"unix:{folder}/socket"
    add_key(keys, "first")
    gate = Gate(Tls(*authority.sign("server")), keys)
    load = ["passthrough"]
    with start_server("127.0.0.1:0", beside=socket, device="cpu", gate=gate, load=load, drain_seconds=0.1) as server:
        yield Secured(server.address, socket, keys)


class Home:
    """A user's settings: servers.toml, and what plugins need to find it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config" / "backline" / "servers.toml"
        self.file.parent.mkdir(parents=True)
        self.environment = {"XDG_CONFIG_HOME": str(folder / "config")}

    def write(self, text: str, mode: int = 0o600) -> None:
        self.file.unlink(missing_ok=True)
        self.file.touch(0o600)
        self.file.write_text(text)
        self.file.chmod(mode)

    def tell(self, address: str, **said: object) -> None:
        """One server."""
        values = {name: "true" if value is True else f"'{value}'" for name, value in said.items()}
        self.write("\n".join([f'["{address}"]', *(f"{name} = {value}" for name, value in values.items())]))


@pytest.fixture(scope="module")
def program(plugins: Path) -> Path:
    return build(plugins, "", "net_test") / "net_test"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def await_status(drive: Drive, status: int, seconds: float = 10) -> None:
    assert int(drive.say("await", status, seconds, BLOCK)) >= 0, drive.message()


# ---- playing -------------------------------------------------------------------------------------------


def test_a_session_over_tls_plays_bit_exact_to_one_without(
    built: Path, tmp_path: Path, home: Home, secured: Secured, authority: Authority
) -> None:
    home.tell(secured.address, key=secured.key("exact"), ca=authority.certificate)
    heard = []
    for address in (secured.socket, secured.address):
        with driver(built, tmp_path, address, **home.environment) as drive:
            drive.say("offline", 1)
            latency = drive.activate(RATE, seconds=0.1)
            heard.append(drive.run(2 * RATE, -1500, 0))
            assert drive.status() == PLAYING, drive.message()
    np.testing.assert_array_equal(heard[0], heard[1])
    assert played_exactly(heard[1], latency).all()


@pytest.mark.slow
def test_the_band_over_tls_is_the_same_band(built: Path, tmp_path: Path, home: Home, authority: Authority) -> None:
    keys, plain, heard = tmp_path / "access.toml", f"unix:{tmp_path}/socket", []
    key, gate = add_key(keys, "band"), Gate(Tls(*authority.sign("band")), keys)
    with start_server("127.0.0.1:0", beside=plain, device="cpu", gate=gate, load=["default"]) as server:
        home.tell(server.address, key=key, ca=authority.certificate)
        for address in (plain, server.address):
            with driver(built, tmp_path, address, **home.environment) as drive:
                drive.say("set", SEED, 11)
                drive.say("offline", 1)
                drive.activate(RATE, seconds=3.0, pack=DEFAULT)
                heard.append(drive.run(5 * RATE, 512, 0))
                assert drive.status() == PLAYING, drive.message()
    np.testing.assert_array_equal(heard[0], heard[1])
    assert np.abs(heard[0][:, 4:6]).max() > 0.01


def test_live_over_tls_the_audio_thread_keeps_the_real_time_rule(
    built: Path, tmp_path: Path, home: Home, secured: Secured, authority: Authority
) -> None:
    home.tell(secured.address, key=secured.key("stage"), ca=authority.certificate)
    guard = {"LD_PRELOAD": str(built / "realtime_guard.so")}
    with driver(built, tmp_path, secured.address, **home.environment, **guard) as drive:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)
        home.tell(secured.address, key=secured.key("stage-two"), ca=authority.certificate)
        drive.run(RATE, 128, 1)
        assert drive.status() == PLAYING, drive.message()


@pytest.mark.parametrize(("channels", "block", "blocks"), [(2, 128, 400), (6, 8_192, 60), (1, 1, 400)])
def test_a_streams_blocks_come_back_bit_for_bit(
    program: Path,
    home: Home,
    secured: Secured,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    channels: int,
    block: int,
    blocks: int,
) -> None:
    home.tell(secured.address, key=secured.key(f"echo{block}"), ca=authority.certificate)
    for variable, value in home.environment.items():
        monkeypatch.setenv(variable, value)
    answer = Answer(program, "echo", secured.address, "passthrough", RATE, channels, block, blocks)
    assert (answer.code, answer.message) == (0, "")
    assert answer.of("received") == [str(4 * channels * block * blocks)]


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_sanitizers_find_nothing(
    plugins: Path, tmp_path: Path, home: Home, secured: Secured, authority: Authority, sanitizer: str
) -> None:
    folder = build(plugins, sanitizer, "drive")
    home.tell(secured.address, key=KEY, ca=authority.certificate)
    with driver(folder, tmp_path, secured.address, **home.environment) as drive:
        drive.activate(RATE, seconds=1.0)
        await_status(drive, REFUSED, 20)
        home.tell(secured.address, key=secured.key(f"clean-{sanitizer}"), ca=authority.certificate)
        await_status(drive, PLAYING, 20)
        drive.run(RATE, -512, 1)
        drive.say("deactivate")
        drive.say("endpoint", secured.address.replace("127.0.0.1", "nowhere.invalid"))
        drive.activate(RATE, seconds=1.0)
        drive.run(RATE // 10, -512, 1)


def test_a_written_server_is_found_where_there_is_no_other(
    built: Path, tmp_path: Path, home: Home, secured: Secured, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without BACKLINE_ADDRESS. Its CA lies beside the file."""
    if Path("/run/user").joinpath(str(UID)).exists() or reachable("127.0.0.1:50505"):
        pytest.skip("a server of the user's runs here")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (home.file.parent / "ca.pem").write_bytes(authority.certificate.read_bytes())
    home.tell(secured.address, key=secured.key("found"), ca="ca.pem")
    with driver(built, tmp_path, "", **home.environment) as drive:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)


def reachable(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


# ---- refusals ------------------------------------------------------------------------------------------


@dataclass
class Refusal:
    """What a user has written, and what the plugin says to it."""

    said: str  # a pattern
    brief: str  # how what is shown in VST3's few letters begins
    key: str | None = "good"  # of `keys`
    ca: str | None = "studio"  # of `authorities`
    server: str = "secured"  # of `addresses`


REFUSALS = {
    "no key": Refusal("this server asks for an access key", "write a key into servers.toml", key=None),
    "no such key": Refusal("does not know the access key", "write a key into servers.toml", key="elsewhere"),
    "none at all": Refusal("no access key, which begins with backline_", "write a key into servers.toml", key="sesame"),
    "revoked": Refusal("the access key 'revoked' was revoked on", "write a key into servers.toml", key="revoked"),
    "another pack": Refusal("the key 'narrow' plays default only", "choose a Pack that your key plays", key="narrow"),
    "full": Refusal("the key 'full' holds all 1 sessions that it may", "end another session", key="full"),
    "plain to TLS": Refusal(
        r"speaks TLS only, and no sound was sent: write key and ca under \[\"127.0.0.1:\d+\"\] into .*/servers.toml",
        "look at servers.toml (the server at 127.0.0.1",
        key=None,
        ca=None,
    ),
    "TLS to plain": Refusal("does not speak TLS, and no key was sent", "look at servers.toml", server="plain"),
    "foreign CA": Refusal(
        r"the certificate of the server at .* was not signed by the authority of .*foreign.pem, and nothing was sent",
        "look at servers.toml (the certificate of",
        ca="foreign",
    ),
    "no CA": Refusal("was not signed by any authority that this system trusts", "look at servers.toml", ca=None),
    "no such file": Refusal(r"nowhere.pem cannot be read, or holds no PEM certificate", "look at", ca="nowhere"),
    "expired": Refusal(r"has expired \(\d{4}-\d\d-\d\d\), and nothing was sent", "look at", server="expired"),
    "wrong address": Refusal("is for another name, and nothing was sent", "look at", server="misnamed"),
    "wrong name": Refusal("is for another name, and nothing was sent", "look at", server="numbered"),
    "asks back": Refusal("may ask for a client's certificate, which plugins have none of", "look at", server="strict"),
    "no gRPC": Refusal("speaks TLS, but no gRPC: is it a Backline server?", "look at", server="web"),
}


@pytest.fixture(scope="module")
def keys(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    limits: dict[str, dict[str, object]] = {"narrow": {"packs": ["default"]}, "full": {"sessions": 1}}
    made = {name: secured.key(name, **limits.get(name, {})) for name in ("good", "revoked", "narrow", "full")}
    revoke_key(secured.keys, "revoked")
    elsewhere = add_key(tmp_path_factory.mktemp("elsewhere") / "access.toml", "elsewhere")
    return {**made, "elsewhere": elsewhere, "sesame": "sesame"}


@pytest.fixture(scope="module")
def authorities(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("foreign")
    foreign = Authority(folder, "foreign")
    return {"studio": authority.certificate, "foreign": foreign.certificate, "nowhere": folder / "nowhere.pem"}


@contextmanager
def tls_listener(certificate: Path, key: Path, protocols: list[str]) -> Iterator[tuple[str, list[str | None]]]:
    """Greets by TLS and hangs up: its address, and the names that it is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if protocols:
        context.set_alpn_protocols(protocols)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                    with context.wrap_socket(connection, server_side=True) as greeted:
                        greeted.recv(1)
                except ssl.SSLError:
                    pass
                except OSError:
                    return

        thread = threading.Thread(target=greet)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", names
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(scope="module")
def addresses(secured: Secured, authority: Authority) -> Iterator[dict[str, str]]:
    """Of servers, one for each way to be wrong."""
    certificates = {
        "expired": Tls(*authority.sign("expired", days=-1)),
        "misnamed": Tls(*authority.sign("misnamed", "DNS:elsewhere.example,IP:127.0.0.2")),
        "numbered": Tls(*authority.sign("numbered", "DNS:elsewhere.example,IP:127.0.0.1")),
        "strict": Tls(*authority.sign("strict"), client_ca=authority.certificate),
    }
    with ExitStack() as stack:
        found = {"secured": secured.address, "plain": stack.enter_context(start_server(device="cpu")).address}
        for name, tls in certificates.items():
            found[name] = stack.enter_context(start_server(device="cpu", gate=Gate(tls, secured.keys))).address
        found["numbered"] = found["numbered"].replace("127.0.0.1", "localhost")
        found["web"], _ = stack.enter_context(tls_listener(*authority.sign("web"), ["http/1.1"]))
        yield found


@pytest.mark.parametrize("how", REFUSALS)
def test_each_refusal_is_told_in_plain_words(
    built: Path,
    tmp_path: Path,
    home: Home,
    secured: Secured,
    keys: dict[str, str],
    authorities: dict[str, Path],
    addresses: dict[str, str],
    how: str,
) -> None:
    refusal = REFUSALS[how]
    address = addresses[refusal.server]
    said = {"key": refusal.key and keys[refusal.key], "ca": refusal.ca and authorities[refusal.ca]}
    if any(said.values()):
        home.tell(address, **{name: value for name, value in said.items() if value})
    with ExitStack() as stack:
        if how == "full":
            owner = stack.enter_context(Client(secured.address, key=keys["full"], ca=authorities["studio"]))
            stack.enter_context(owner.open("passthrough", RATE, 1))
        drive = stack.enter_context(driver(built, tmp_path, address, **home.environment))
        drive.activate(RATE, seconds=0.5)
        await_status(drive, REFUSED)
        message = drive.message()
        assert re.search(refusal.said, message), message
        assert drive.say("brief").startswith(refusal.brief), drive.say("brief")
        assert not [key for key in keys.values() if key in message and key != "sesame"]
        assert not drive.sessions()


def test_a_bounce_that_is_refused_says_so_and_holds_dry(
    built: Path, tmp_path: Path, home: Home, secured: Secured, authorities: dict[str, Path]
) -> None:
    home.tell(secured.address, tls=True, ca=authorities["foreign"])
    with driver(built, tmp_path, secured.address, **home.environment) as drive:
        drive.say("offline", 1)
        drive.activate(RATE, seconds=0.1)
        assert not drive.run(RATE, BLOCK, 0)[:, 4:6].any()
        assert drive.status() == REFUSED
        assert "The bounce holds dry" in drive.message()


# ---- names ---------------------------------------------------------------------------------------------


def names(built: Path, *places: str, seconds: float = 0, also: str = "") -> dict[str, str]:
    """A name service by which every name is at these places, which it says after so many seconds."""
    preloaded = ":".join(str(built / f"{library}.so") for library in ("names", also) if library)
    told = {"BACKLINE_PLACES": ",".join(places)} if places else {}
    return {"LD_PRELOAD": preloaded, "BACKLINE_SECONDS": str(seconds), **told}


@pytest.fixture(scope="module")
def named() -> Iterator[str]:
    """A server without TLS or keys, by a name that only `names` knows."""
    with start_server("127.0.0.1:0", device="cpu", load=["passthrough"], drain_seconds=0.1) as server:
        yield server.address.replace("127.0.0.1", "studio.example")


def test_a_place_that_is_told_late_is_reached_all_the_same(built: Path, tmp_path: Path, named: str) -> None:
    """As it is where the first of a system's name servers is gone."""
    with driver(built, tmp_path, named, **names(built, "127.0.0.1", seconds=2.5)) as drive:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)


def test_of_a_names_places_one_that_is_silent_is_passed_over(built: Path, tmp_path: Path, named: str) -> None:
    """As addresses of IPv6 are where a firewall drops them."""
    port = int(named.rpartition(":")[2])
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.2", port), backlog=0))
        for _ in range(3):  # as many as may wait to be accepted: of more, the system hears nothing
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        drive = stack.enter_context(driver(built, tmp_path, named, **names(built, "127.0.0.2", "127.0.0.1")))
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)


def test_a_want_of_memory_for_a_names_places_is_survived(built: Path, tmp_path: Path, named: str) -> None:
    """Of so many that they want 64 KiB at once."""
    environment = names(built, *600 * ["127.0.0.1"], also="out_of_memory")
    short = {"BACKLINE_LARGE": "60000", "BACKLINE_REFUSALS": "1"}
    with driver(built, tmp_path, named, **environment, **short) as drive:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)


@pytest.mark.parametrize(("host", "asked"), [("localhost", "localhost"), ("127.0.0.1", None)])
def test_a_server_is_asked_for_by_its_name(
    built: Path, tmp_path: Path, home: Home, authority: Authority, host: str, asked: str | None
) -> None:
    """Which a numeric address is not (RFC 6066)."""
    with tls_listener(*authority.sign("named"), ["h2"]) as (address, names):
        address = address.replace("127.0.0.1", host)
        home.tell(address, ca=authority.certificate)
        with driver(built, tmp_path, address, **home.environment) as drive:
            drive.activate(RATE, seconds=0.5)
            drive.run(RATE // 2, BLOCK, 1)
    assert names
    assert set(names) == {asked}


def test_a_name_is_looked_up(built: Path, tmp_path: Path, home: Home, authority: Authority) -> None:
    name = socket.gethostname()
    try:
        here = {str(entry[4][0]) for entry in socket.getaddrinfo(name, 1, type=socket.SOCK_STREAM)}
    except OSError:
        pytest.skip(f"this machine does not know its own name {name}")
    keys = tmp_path / "access.toml"
    key = add_key(keys, "one")
    gate = Gate(Tls(*authority.sign("hostname", f"DNS:{name}")), keys)
    with start_server("0.0.0.0:0", device="cpu", gate=gate, drain_seconds=0.1) as server:
        address = server.address.replace("0.0.0.0", name)
        if not any(reachable(server.address.replace("0.0.0.0", each)) for each in here if ":" not in each):
            pytest.skip(f"{name} is no IPv4 address of this machine")
        home.tell(address, key=key, ca=authority.certificate)
        with driver(built, tmp_path, address, **home.environment) as drive:
            drive.activate(RATE, seconds=0.5)
            await_status(drive, PLAYING)


def test_a_name_that_nobody_knows_is_named(built: Path, tmp_path: Path) -> None:
    with driver(built, tmp_path, "nowhere.invalid:50505") as drive:
        drive.activate(RATE, seconds=0.5)
        drive.run(5 * RATE // 2, BLOCK, 1)
        said = drive.message()
    assert re.search(r"nobody (knows nowhere.invalid|has said within 2000 ms where nowhere.invalid is)", said), said


def test_a_lookup_that_hangs_keeps_nobody_waiting(built: Path, tmp_path: Path) -> None:
    with driver(built, tmp_path, "studio.example:50505", **names(built, seconds=2)) as drive:
        drive.activate(RATE, seconds=0.5)
        drive.run(RATE // 4, BLOCK, 1)
        assert float(drive.say("deactivate")) < 0.1


def test_a_lookup_that_hangs_outlives_the_plugin(built: Path, clap_file: Path) -> None:
    """A host unloads it meanwhile: what the answer comes back to is still there."""
    environment = {**os.environ, "BACKLINE_ADDRESS": "studio.example:50505", **names(built, seconds=2)}
    done = subprocess.run(
        [sys.executable, "-c", UNLOADED, clap_file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (0, "asked\nanswered\n"), done.stderr[-2000:]


UNLOADED = """
import ctypes, os, pathlib, sys, time
from _ctypes import dlclose
from tests.plugin.clap_host import Bundle

def await_threads(count):
    until = time.monotonic() + 20
    while len(os.listdir("/proc/self/task")) != count:
        assert time.monotonic() < until
        time.sleep(0.01)

before = len(os.listdir("/proc/self/task"))
with Bundle(pathlib.Path(sys.argv[1])) as bundle, bundle.create() as plugin:
    plugin.activate(48000.0, 512)
    await_threads(before + 2)
dlclose(bundle.library._handle)
print("asked", flush=True)
await_threads(before)
print("answered", flush=True)
"""


# ---- peers that mean harm ------------------------------------------------------------------------------


def test_a_peer_that_floods_the_greeting_keeps_nobody_waiting(
    built: Path, tmp_path: Path, home: Home, authority: Authority
) -> None:
    """With warnings, which TLS passes over, faster than they can be read."""
    until = time.monotonic() + 4
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                while time.monotonic() < until:
                    connection.sendall(4096 * bytes([21, 3, 3, 0, 2, 1, 90]))

        thread = threading.Thread(target=flood)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        home.tell(address, ca=authority.certificate)
        with driver(built, tmp_path, address, **home.environment) as drive:
            drive.activate(RATE, seconds=0.5)
            drive.run(RATE // 2, BLOCK, 1)
            assert float(drive.say("deactivate")) < 1  # of the 3 and more that the flood goes on for
        thread.join()


# ---- what changes --------------------------------------------------------------------------------------


def test_a_want_of_memory_for_the_file_makes_no_server_a_plain_one(
    built: Path, tmp_path: Path, home: Home, secured: Secured, authority: Authority
) -> None:
    """The file wants 64 KiB at once."""
    home.tell(secured.address, key=secured.key("short"), ca=authority.certificate)
    home.write(home.file.read_text() + "\n" + 10_000 * "# long\n")
    short = {"LD_PRELOAD": str(built / "out_of_memory.so"), "BACKLINE_LARGE": "60000", "BACKLINE_REFUSALS": "1"}
    with driver(built, tmp_path, secured.address, **home.environment, **short) as drive:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)


def test_a_key_put_right_is_taken_at_once(
    built: Path, tmp_path: Path, home: Home, secured: Secured, keys: dict[str, str], authorities: dict[str, Path]
) -> None:
    good = secured.key("put-right")
    wrong: list[Callable[[], None]] = [
        lambda: home.tell(secured.address, key=keys["elsewhere"], ca=authorities["studio"]),
        lambda: home.tell(secured.address, key=good, ca=authorities["foreign"]),
        lambda: home.write("nonsense"),
        lambda: home.write(f'["{secured.address}"]\nkey = "{good}"\nca = "{authorities["studio"]}"\n', mode=0o640),
    ]
    home.tell(secured.address, key=good, ca=authorities["studio"])
    with driver(built, tmp_path, secured.address, **home.environment) as drive:
        for spoil in wrong:
            spoil()
            drive.activate(RATE, seconds=0.5)
            await_status(drive, REFUSED)
            home.tell(secured.address, key=good, ca=authorities["studio"])
            await_status(drive, PLAYING, 3)
            drive.say("deactivate")


def test_a_key_revoked_while_it_plays_ends_the_session_and_another_opens_one(
    built: Path, tmp_path: Path, home: Home, secured: Secured, authority: Authority
) -> None:
    home.tell(secured.address, key=secured.key("leaving"), ca=authority.certificate)
    with driver(built, tmp_path, secured.address, **home.environment) as drive:
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)
        revoke_key(secured.keys, "leaving")
        await_status(drive, REFUSED)
        assert "the access key 'leaving' was revoked" in drive.message()
        home.tell(secured.address, key=secured.key("staying"), ca=authority.certificate)
        await_status(drive, PLAYING, 3)


def test_a_server_that_comes_back_is_played_again(
    built: Path, tmp_path: Path, home: Home, authority: Authority
) -> None:
    keys = tmp_path / "access.toml"
    address, tls = f"127.0.0.1:{free_port()}", Tls(*authority.sign("back"))
    home.tell(address, key=add_key(keys, "one"), ca=authority.certificate)
    with driver(built, tmp_path, address, **home.environment) as drive:
        drive.activate(RATE, seconds=0.5)
        with start_server(address, device="cpu", gate=Gate(tls, keys), drain_seconds=0.1):
            await_status(drive, PLAYING)
        drive.run(2 * RATE, BLOCK, 1)
        assert f"there is no server at {address}" in drive.message()
        with start_server(address, device="cpu", gate=Gate(tls, keys), drain_seconds=0.1):
            await_status(drive, PLAYING)


def test_a_session_is_its_keys_alone(
    built: Path, tmp_path: Path, home: Home, secured: Secured, authority: Authority
) -> None:
    mine = secured.key("mine")
    home.tell(secured.address, key=mine, ca=authority.certificate)
    with (
        driver(built, tmp_path, secured.address, **home.environment) as drive,
        Client(secured.address, key=secured.key("other"), ca=authority.certificate) as other,
        Client(secured.address, key=mine, ca=authority.certificate) as client,
    ):
        drive.activate(RATE, seconds=0.5)
        await_status(drive, PLAYING)
        (session,) = client.sessions()
        assert not other.sessions()
        with pytest.raises(NotFound):
            other.close_session(session.id)
        assert drive.status() == PLAYING


# ---- the file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", []),
        ("# nobody\n", []),
        (f'["studio:50505"]\nkey = "{KEY}"\n', [f"studio:50505 1 {KEY} "]),
        (f"['studio:50505']\nkey = '{KEY}' # mine\nca = '/ca.pem'\n", [f"studio:50505 1 {KEY} /ca.pem"]),
        ('["b:1"]\nca = "ca.pem"\n["a:1"]\ntls = true\n["[::1]:1"]', ["b:1 1  HERE/ca.pem", "a:1 1  ", "[::1]:1 0  "]),
        ('["a:1"]\nca = "~/ca.pem"\r\ntls = true\r\n', ["a:1 1  HOME/ca.pem"]),
        ('["a:1"]\ntls = false\nca = "/ca.pem"\n', ["a:1 0  /ca.pem"]),
        ('"a:1" = { tls = true }\n', ["a:1 1  "]),
    ],
)
def test_the_file_is_read(
    program: Path, home: Home, monkeypatch: pytest.MonkeyPatch, text: str, read: list[str]
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    home.write(text)
    said = servers(program, home)
    places = {"HERE": str(home.file.parent), "HOME": os.environ["HOME"]}
    assert said == [f"server {re.sub('HERE|HOME', lambda place: places[place.group()], line)}" for line in read]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[studio.example:50505]\n", "line 1: .*"),  # an address wants quotes
        ("[studio]\n", 'line 1: "studio" is no address of a server: write .*'),
        ('["unix:/run/socket"]\n', "line 1: a socket on this machine needs neither key nor TLS"),
        ('key = "a"\n', r'line 1: write \["ADDRESS"\] before it'),
        ('["a:1"]\nkey = "a"\nkey = "b"\n', "line 3: .*"),
        ('["a:1"]\n\nkee = "a"\n', r'line 3: there is key = "\.\.\.", ca = "\.\.\." and tls = true or false'),
        ('["a:1"]\nkey = 1\n', "line 2: there is key .*"),
        ('["a:1"]\ntls = "yes"\n', "line 2: there is key .*"),
        ('["a:1"]\nca = ""\n', "line 2: there is key .*"),
        ('["a:1"]\nkey = "two words"\n', "line 1: the key holds what no key does: give it as it was printed"),
        (f'["a:1"]\nkey = "{KEY}"\ntls = false\n', "line 1: a key goes over TLS only: leave tls out"),
        ("\0", "line 1: .*"),
        ('["a:1"\n', "line 1: .*"),
        ('["a:1"]\nkey = "\udcff"\n', "line 2: .*"),  # no UTF-8
        (f'["a:1"]\nkey = "{KEY}"\n' + 200_000 * "# long\n", None),
    ],
)
def test_what_is_wrong_with_the_file_is_named(program: Path, home: Home, text: str, problem: str | None) -> None:
    home.write("")
    home.file.write_bytes(text.encode(errors="surrogateescape"))
    (said,) = servers(program, home)
    expected = "cannot be read \\(File too large\\)" if problem is None else problem
    separator = " " if problem is None else ", "
    assert re.fullmatch(f"problem {re.escape(str(home.file))}{separator}{expected}", said), said
    assert KEY not in said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_read_is_refused(program: Path, home: Home, mode: int) -> None:
    home.write(f'["a:1"]\nkey = "{KEY}"\n', mode)
    assert servers(program, home) == [
        f"problem {home.file} is open to others, and keys are for you alone: chmod 600 it, and let it be yours"
    ]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("studio.example:5050", "Studio.EXAMPLE:05050"),
        ("LOCALHOST:1", "localhost:1"),
        ("127.0.0.1:1", "localhost:1"),
        ("[::1]:1", "[0:0::1]:01"),
    ],
)
def test_what_is_written_of_a_server_holds_however_its_address_is(
    program: Path, home: Home, written: str, address: str
) -> None:
    home.tell(written, key=KEY)
    assert servers(program, home, address)[-1] == f"access {address} 1 {KEY} "
    assert servers(program, home, address[:-1] + "2")[-1] == f"access {address[:-1]}2 0  "
    home.write(f'["{written}"]\nkey = "{KEY}"\n["{address}"]\ntls = true\n')
    assert re.search(r", line [13]: \S+ has another entry$", servers(program, home)[0])


def test_a_file_of_another_user_is_refused_and_what_is_none_is_named(program: Path, home: Home) -> None:
    home.write("")
    try:
        os.chown(home.file, UID, -1)
    except PermissionError:
        pytest.skip("only root gives files away")
    assert "is open to others" in servers(program, home)[0]
    home.file.unlink()
    assert servers(program, home) == []
    home.file.mkdir(0o700)
    assert servers(program, home) == [f"problem {home.file} is no file"]


def servers(program: Path, home: Home, *addresses: str) -> list[str]:
    """What net_test reads from the file, a line each; and what it shows to these addresses."""

    environment = {**os.environ, **home.environment}
    command = [program, "servers", *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    return done.stdout.splitlines()
