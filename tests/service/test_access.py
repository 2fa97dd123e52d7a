"""Who comes in from other machines: TLS and access keys, what each key may, and what a stranger is told."""

import asyncio
import errno
import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from unittest.mock import Mock

import grpc
import numpy as np
import pytest

from backline.engine.errors import Unauthenticated
from backline.service.access import (
    BURST_SECONDS,
    SLACK,
    AccessError,
    Guest,
    Guests,
    Key,
    add_key,
    read_keys,
    revoke_key,
)
from backline.service.gate import Gate, Tls
from backline.service.server import start_server
from backline_client import (
    AccessDenied,
    AsyncClient,
    BacklineError,
    Client,
    ConnectionFailed,
    NotFound,
    ServerBusy,
)
from tests.support.certificates import Authority
from tests.support.clock import TurnedClock
from tests.support.wire import eventually, noise

RATE, BLOCK = 48_000, 480


@dataclass
class Secured:
    """A server with TLS and keys on a port, and plainly at a socket; what its clients need."""

    address: str
    socket: str
    ca: Path
    folder: Path
    keys: Path

    def key(self, name: str, **limits: object) -> str:
        return add_key(self.keys, name, **limits)

    def client(self, key: str | None) -> Client:
        return Client(self.address, key=key, ca=self.ca, timeout=20.0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "studio")


@pytest.fixture(scope="module")
def tls(authority: Authority) -> Tls:
    return Tls(*authority.sign("server"))


@pytest.fixture(scope="module")
def secured(authority: Authority, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("keys")
    keys = folder / "access.toml"
    add_key(keys, "first")
    socket = f"unix:{folder}/socket"
    with start_server("0.0.0.0:0", beside=socket, device="cpu", gate=Gate(tls, keys), drain_seconds=0.1) as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        yield Secured(address, socket, authority.certificate, folder, keys)


# ---- where a server may listen -------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:50505"])
def test_a_server_does_not_listen_to_other_machines_by_mistake(address: str) -> None:
    with pytest.raises(OSError, match=r"--tls-cert and --tls-key .*backline access add.* --trust-network"):
        start_server(address, device="cpu").__enter__()


def test_trusting_a_network_is_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    with start_server("0.0.0.0:0", device="cpu", gate=Gate(trust_network=True)) as server:
        assert "anybody who reaches 0.0.0.0:0 may play here, and hear what is sent" in caplog.text
        with Client(server.address.replace("0.0.0.0", "127.0.0.1")) as client:
            assert client.packs()


def test_tls_without_a_key_to_come_in_by_is_refused(tls: Tls, tmp_path: Path) -> None:
    keys = tmp_path / "access.toml"
    for _ in range(2):
        with pytest.raises(AccessError, match=r"nobody has an access key .*backline access add"):
            start_server(gate=Gate(tls, keys)).__enter__()
        add_key(keys, "one")
        revoke_key(keys, "one")


def test_files_that_are_no_certificate_are_named(tls: Tls, authority: Authority, tmp_path: Path) -> None:
    other = authority.sign("other")
    for files, said in (
        (Tls(tls.certificate, other[1]), "key values mismatch"),
        (Tls(tmp_path / "none", tls.key), "cannot be read: No such file"),
        (Tls(tls.certificate, tls.key, tls.key), f"{tls.key} cannot be used for TLS"),
    ):
        with pytest.raises(OSError, match=said):
            start_server(gate=Gate(files)).__enter__()


# ---- playing -------------------------------------------------------------------------------------------


def test_a_session_over_tls_plays_bit_for_bit(secured: Secured) -> None:
    audio = noise(2, 20_000)
    key = secured.key("player", sessions=1, packs=["passthrough"])
    with secured.client(key) as client:
        assert np.array_equal(client.render("passthrough", audio, RATE)["main"], audio)
        with client.open("passthrough", RATE, 2, block_size=BLOCK, offline=True) as session:
            for at in range(0, audio.shape[1], BLOCK):
                session.send(audio[:, at : at + BLOCK])
            session.end_input()
            heard = np.concatenate([block.audio for block in session], axis=1)
    assert np.array_equal(heard, audio)

    async def asynchronously() -> None:
        async with (
            AsyncClient(secured.address, key=key, ca=secured.ca) as client,
            await client.open("passthrough", RATE, 2, block_size=BLOCK, offline=True) as session,
        ):
            session.send(audio[:, :BLOCK])
            session.end_input()
            heard = np.concatenate([block.audio async for block in session], axis=1)
        assert np.array_equal(heard, audio[:, :BLOCK])

    asyncio.run(asynchronously())


def test_the_users_own_socket_needs_no_key(secured: Secured) -> None:
    for key in (None, "whatever"):
        with Client(secured.socket, key=key) as client:
            assert client.packs()


def test_health_is_told_to_anybody(secured: Secured) -> None:
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    credentials = grpc.ssl_channel_credentials(secured.ca.read_bytes())
    with grpc.secure_channel(secured.address, credentials) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        with pytest.raises(grpc.RpcError) as refused:  # a watch has no end, and a stranger could hold thousands
            next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=10))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


# ---- strangers -----------------------------------------------------------------------------------------


def refusals(client: Client) -> set[tuple[type, str]]:
    """What a client is told who asks for a session, a render, a list and the server's description of itself."""
    told = set()

    def play() -> None:
        client.open("passthrough", RATE, 1)

    calls: list[Callable[[], object]] = [
        play,
        lambda: client.render("passthrough", noise(1, 100), RATE),
        client.packs,
        client.sessions,
        client.stats,
        lambda: client.unload_pack("passthrough"),
    ]
    for call in calls:
        with pytest.raises(BacklineError) as caught:
            call()
        told.add((type(caught.value), caught.value.message))
    return told


def test_without_a_key_or_with_a_wrong_one_nothing_is_answered(secured: Secured, tmp_path: Path) -> None:
    revoked = secured.key("left")
    revoke_key(secured.keys, "left")
    elsewhere = add_key(tmp_path / "access.toml", "elsewhere")
    for key, said in (
        (None, "this server asks for an access key: give yours"),
        ("sesame", "no access key, which begins with backline_"),
        (elsewhere, "does not know the access key: is it another server's"),
        (revoked, "the access key 'left' was revoked on "),
    ):
        with secured.client(key) as client:
            told = refusals(client)
        assert {kind for kind, _ in told} == {AccessDenied}
        assert all(said in text and (key is None or key not in text) for _, text in told), told


def test_reflection_asks_for_a_key_too(secured: Secured) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    with grpc.secure_channel(secured.address, grpc.ssl_channel_credentials(secured.ca.read_bytes())) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ServerReflectionInfo(iter([asked]), timeout=10))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_what_is_wrong_with_tls_is_said(secured: Secured, authority: Authority, tmp_path: Path) -> None:
    key = secured.key("careful")
    foreign = Authority(tmp_path, "foreign")
    bad_name = Tls(*authority.sign("elsewhere", "DNS:elsewhere.example"))
    asking = Tls(*authority.sign("asking"), client_ca=authority.certificate)
    own = b"".join(path.read_bytes() for path in authority.sign("musician"))
    (tmp_path / "own.pem").write_bytes(own)
    (tmp_path / "no.pem").write_text("no certificate")
    with (
        start_server(device="cpu") as plain,
        start_server(device="cpu", gate=Gate(bad_name, secured.keys)) as misnamed,
        start_server(device="cpu", gate=Gate(asking, secured.keys)) as strict,
    ):
        for client, said in (
            (Client(secured.address), "speaks TLS only, and nothing was sent"),
            (Client(secured.address, key=key, ca=foreign.certificate), f"not the authority of {foreign.certificate}"),
            (Client(secured.address, key=key), "signed by no authority that gRPC knows"),
            (Client(secured.address, key=key, ca=tmp_path / "no.pem"), "no.pem holds no PEM certificate"),
            (Client(misnamed.address, key=key, ca=secured.ca), "is for another name"),
            (Client(plain.address, key=key, ca=secured.ca), "does not speak TLS, and no key was sent"),
            (Client(strict.address, key=key, ca=secured.ca), "it may ask for a client's certificate"),
        ):
            with client:
                told = refusals(client)
            assert {kind for kind, _ in told} == {ConnectionFailed}
            assert all(said in text for _, text in told), (said, told)
        with Client(strict.address, key=key, ca=secured.ca, certificate=tmp_path / "own.pem") as client:
            assert client.packs()


def test_a_key_that_no_header_holds_is_refused_and_not_repeated() -> None:
    for key in ("", "two\nlines", "clé", " backline_x"):
        with pytest.raises(ValueError, match="give it as it was printed") as caught:
            Client("studio:50505", key=key)
        assert not key.strip() or key.strip() not in str(caught.value)


# ---- what is whose -------------------------------------------------------------------------------------


def test_sessions_are_seen_and_closed_by_their_key_only(secured: Secured) -> None:
    with (
        secured.client(secured.key("ann")) as ann,
        secured.client(secured.key("bob")) as bob,
        Client(secured.socket) as owner,
        ann.open("passthrough", RATE, 1) as hers,
        owner.open("passthrough", RATE, 1) as mine,
    ):
        ids = {hers.ready.session, mine.ready.session}
        assert [session.id for session in ann.sessions()] == [hers.ready.session]
        assert [session.id for session in ann.stats().by_session] == [hers.ready.session]
        assert bob.sessions() == list(bob.stats().by_session) == []
        assert {session.id for session in owner.sessions()} == ids
        for session in ids:
            with pytest.raises(NotFound, match=r"no session .*: see ListSessions"):
                bob.close_session(session)
        with pytest.raises(NotFound):
            ann.close_session(mine.ready.session)
        with pytest.raises(AccessDenied, match="only the server's own user unloads packs"):
            bob.unload_pack("passthrough", close_sessions=True)
        ann.close_session(hers.ready.session)
        assert eventually(lambda: [session.id for session in owner.sessions()] == [mine.ready.session])


def test_a_key_plays_its_packs_and_holds_its_sessions(secured: Secured) -> None:
    with secured.client(secured.key("few", sessions=1, packs=["passthrough"])) as client:
        assert [pack.name for pack in client.packs()] == ["passthrough"]
        for call in (client.load_pack, lambda pack: client.open(pack, RATE, 1)):
            with pytest.raises(AccessDenied, match="the key 'few' plays passthrough only"):
                call("default")
        with (
            client.open("passthrough", RATE, 1),
            pytest.raises(ServerBusy, match="the key 'few' holds all 1 sessions that it may"),
        ):
            client.open("passthrough", RATE, 1)
        client.open("passthrough", RATE, 1).close()


def test_whoever_plays_live_faster_than_its_key_may_is_told_so(secured: Secured) -> None:
    audio = noise(2, 200 * BLOCK)
    with secured.client(secured.key("slow", messages_per_second=2)) as client:
        session = client.open("passthrough", RATE, 2, block_size=BLOCK)
        for at in range(0, audio.shape[1], BLOCK):
            session.send(audio[:, at : at + BLOCK])
        with pytest.raises(ServerBusy, match="the key 'slow' may send 2 messages a second: send less"):
            session.close()
        with pytest.raises(ServerBusy, match="the key 'slow' may send 2 messages a second"):
            client.packs()
    with secured.client(secured.key("wide", bytes_per_second=100_000)) as client:
        session = client.open("passthrough", RATE, 2, block_size=BLOCK)
        session.send(audio)
        with pytest.raises(ServerBusy, match="the key 'wide' may send 100000 bytes a second"):
            session.close()


def test_a_render_is_slowed_down_to_what_its_key_may(secured: Secured) -> None:
    """0.1 s more than its burst, and all of it comes."""
    rate = 400_000
    audio = noise(1, round(rate * (BURST_SECONDS + 0.1)) // 4)
    with secured.client(secured.key("patient", bytes_per_second=rate)) as client:
        assert np.array_equal(client.render("passthrough", audio, RATE)["main"], audio)


def test_rates_are_kept_by_the_clock() -> None:
    clock = TurnedClock()
    guest = Guest(Key("n", "0" * 64, added=date(2026, 1, 1), messages_per_second=10.0), clock)
    pace = 10.0 * SLACK
    burst = int(pace * BURST_SECONDS)
    assert [guest.spend(1, 1) for _ in range(burst)] == [0.0] * burst
    assert guest.spend(1, 1) == pytest.approx((burst + 1) / pace - BURST_SECONDS)
    clock.turn(2 / pace)
    assert guest.spend(1, 1) == 0.0


def test_whoever_sends_just_what_a_key_may_is_never_ended() -> None:
    """An hour of 48 kHz in stereo at the rate that `access add --help` names, by a card that runs fast, with what goes
    around the samples and a knob that turns."""
    clock = TurnedClock()
    guest = Guest(Key("n", "0" * 64, added=date(2026, 1, 1), bytes_per_second=384_000.0), clock)
    for _ in range(3600 * 10):
        clock.turn(0.1)
        assert guest.spend(39, 38_400 * 1.002 + 38 * 16 + 10 * 60) == 0.0


def test_a_render_takes_nothing_of_what_a_stage_lives_on() -> None:
    guest = Guest(Key("n", "0" * 64, added=date(2026, 1, 1), messages_per_second=10.0), TurnedClock())
    while not guest.spend(1, 1, offline=True):
        pass
    assert guest.spend(1, 1) == guest.spend(0, 0) == 0.0


def test_limits_that_are_changed_hold_for_who_plays_already(secured: Secured) -> None:
    with secured.client(secured.key("changed")) as client:
        session = client.open("passthrough", RATE, 1, block_size=480)
        session.send(noise(1, 480))
        assert session.receive(10.0) is not None
        head, tail = secured.keys.read_text().split('name = "changed"')
        secured.keys.write_text(head + 'name = "changed"\npacks = ["another"]' + tail)
        with pytest.raises(AccessDenied, match="the key 'changed' plays another only"):
            session.receive(10.0)


def test_a_file_that_cannot_be_read_just_now_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.toml"
    said = (("authorization", f"Bearer {add_key(path, 'one')}"),)
    guests = Guests(path)
    revoke_key(path, "one")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", Mock(side_effect=OSError(errno.EMFILE, "too many open files")))
        guests.look()
    with pytest.raises(Unauthenticated, match="was revoked"):
        guests.guest(said)


def test_a_key_that_is_added_while_another_is_revoked_does_not_bring_it_back(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    add_key(path, "gone")
    with ThreadPoolExecutor(4) as threads:
        added = [threads.submit(add_key, path, f"new{number}") for number in range(12)]
        threads.submit(revoke_key, path, "gone").result()
        for each in added:
            each.result()
    keys = {key.name: key for key in read_keys(path)}
    assert len(keys) == 13
    assert keys["gone"].revoked is not None


# ---- the file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoked", "deleted", "no file"])
def test_a_revoked_key_ends_at_once(secured: Secured, tls: Tls, tmp_path: Path, how: str) -> None:
    keys = tmp_path / "access.toml"
    ending, staying = add_key(keys, "ending"), add_key(keys, "staying")
    with (
        start_server(device="cpu", gate=Gate(tls, keys), drain_seconds=0.1) as server,
        Client(server.address, key=ending, ca=secured.ca) as out,
        Client(server.address, key=staying, ca=secured.ca) as other,
    ):
        plays_on = other.open("passthrough", RATE, 1, block_size=BLOCK, offline=True)
        session = out.open("passthrough", RATE, 1, block_size=BLOCK)
        if how == "revoked":
            revoke_key(keys, "ending")
        elif how == "deleted":
            keys.write_text(re.sub(r'\[\[keys\]\]\nname = "ending"\n.*\n.*\n', "", keys.read_text()))
            assert [key.name for key in read_keys(keys)] == ["staying"]
        else:
            keys.unlink()
        with pytest.raises(AccessDenied, match="the access key 'ending' was revoked"):
            session.receive(timeout=10)
        with pytest.raises(AccessDenied):
            out.packs()
        if how != "no file":
            plays_on.send(noise(1, BLOCK))
            assert len(other.sessions()) == 1
            plays_on.cancel()
        else:
            with pytest.raises(AccessDenied, match="the access key 'staying' was revoked"):
                plays_on.receive(timeout=10)


def test_the_file_is_its_users_alone_and_holds_no_key(tmp_path: Path) -> None:
    path = tmp_path / "new" / "access.toml"
    secrets = [add_key(path, name, sessions=2) for name in ("one", "two")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(secret in path.read_text() for secret in secrets)
    assert [len(secret) for secret in secrets] == [len("backline_") + 43] * 2
    revoke_key(path, "one")
    with pytest.raises(AccessError, match="no key 'one' to revoke: there is two"):
        revoke_key(path, "one")
    with pytest.raises(AccessError, match="there is a key 'two' already"):
        add_key(path, "two")
    with pytest.raises(AccessError, match="no key is made of these values"):
        add_key(path, "a name", sessions=0)
    again = add_key(path, "one")
    guests = Guests(path)
    assert guests.guest((("authorization", f"Bearer {again}"),)).name == "one"
    with pytest.raises(Unauthenticated, match="revoked"):
        guests.guest((("authorization", f"Bearer {secrets[0]}"),))
    path.chmod(0o666)
    with pytest.raises(AccessError, match="could be written by others"):
        read_keys(path)


def test_a_damaged_file_changes_nothing_and_is_complained_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "access.toml"
    said = (("authorization", f"Bearer {add_key(path, 'one', messages_per_second=2)}"),)
    guests = Guests(path)
    before = guests.guest(said)
    whole = path.read_text()
    for damage in (whole + "[", whole.replace("name =", "nome ="), whole + 'sessions = "many"'):
        path.write_text(damage)
        assert guests.guest(said) is before
    assert caplog.text.count("the access keys stay as they were") == 3
    path.write_text(whole.replace("messages_per_second = 2", "messages_per_second = 4"))
    assert guests.guest(said) is before
    assert "may send 4 messages" in str(before.over_rate())
    path.unlink()
    with pytest.raises(Unauthenticated):
        guests.guest(said)


# ---- secrets -------------------------------------------------------------------------------------------


def test_no_secret_is_logged(secured: Secured, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    keys = [secured.key(f"secret{number}") for number in range(2)]
    wrong = "backline_" + "x" * 43
    for key in (*keys, wrong):
        with secured.client(key) as client:
            try:
                client.render("passthrough", noise(1, 500), RATE)
                client.open("no-such-pack", RATE, 1)
            except BacklineError as error:
                logging.getLogger("test").warning("%r", error)
            assert key not in repr(client) + repr(client.__dict__)
    revoke_key(secured.keys, "secret0")
    assert eventually(lambda: "'secret0' has been revoked" in caplog.text)
    assert "secret1" in caplog.text or "session" in caplog.text  # something was logged
    said = caplog.text + "".join(capfd.readouterr()) + "".join(repr(record.__dict__) for record in caplog.records)
    digests = [entry.sha256 for entry in read_keys(secured.keys)]
    assert not [secret for secret in (*keys, wrong, *digests) if secret in said]
    assert os.environ.get("GRPC_TRACE") is None
