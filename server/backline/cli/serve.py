"""`backline serve`: the server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options
from backline.cli.settings import configured

if TYPE_CHECKING:
    from backline.service.server import Door


def serve(
    address: Annotated[
        str, typer.Option(help="Where to listen: HOST:PORT (port 0: any free one) or unix:/path/to/socket.")
    ] = "127.0.0.1:50505",
    socket: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A Unix socket to listen at beside HOST:PORT, or none. Left out: your own, where plugins look first "
            "($XDG_RUNTIME_DIR/backline.sock, else /run/user/UID/backline.sock, else "
            "~/.local/state/backline/backline.sock), unless another server has it.",
        ),
    ] = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    load: Annotated[
        list[str] | None, typer.Option(help="Make this pack resident at once; may be given several times.")
    ] = None,
    rows: Annotated[
        int | None,
        typer.Option(
            help="Sessions at the same time on one pack, each of which takes memory. Left out: as many as it says.",
            min=1,
            max=1024,
        ),
    ] = None,
    max_sessions: Annotated[int, typer.Option(help="Open at the same time, at most.", min=1)] = 64,
    load_limit: Annotated[
        float,
        typer.Option(
            help="Cores that live sessions may claim; one that would go beyond is refused.",
            min=0,
            callback=options.finite,
        ),
    ] = 0.85,
    idle: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="After so long, a client that neither sends nor takes its output loses its place, unless it has said "
            "that its transport stands still; a render after ten times that.",
            min=1,
        ),
    ] = 30.0,
    lease: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="For so long at most, a session whose connection has broken off keeps its place, so that its client "
            "can go on where it was; 0: not at all.",
            min=0,
            callback=options.finite,
        ),
    ] = 30.0,
    osc: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Be driven by OSC, too: UDP and TCP at this address, where OSCQuery lists all there is. Needs "
            "`pip install 'backline\\[osc]'`.",
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve a page for browsers: sessions, packs, parameters, and a microphone to try them. Needs "
            "`pip install 'backline\\[console]'`.",
        ),
    ] = None,
    http_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which browsers on other machines reach that page, with --trust-network, and Prometheus the "
            "metrics; may be given several times. Without one the page is for this machine alone.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            help="The server's certificate: HOST:PORT then speaks TLS, and lets in who has a key (`backline access`).",
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Clients must show a certificate that this authority signed.")
    ] = None,
    keys: options.KeysFile = None,
    trust_network: Annotated[
        bool,
        typer.Option(
            "--trust-network",
            help="Listen where other machines reach you without TLS and keys: everybody there may play, and hear.",
        ),
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Answer Prometheus there over HTTP at /metrics, and supervisors at /healthz and /readyz.",
        ),
    ] = None,
    log: Annotated[
        options.LogFormat, typer.Option(help="text: warnings as lines; json: what happens, an object a line.")
    ] = options.LogFormat.TEXT,
    log_sessions: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Keep the event log of every session in this folder, for `backline render --replay`: what was asked "
            "for, when, and hashes. Left out: nothing is kept.",
        ),
    ] = None,
    log_audio: Annotated[
        bool, typer.Option("--log-audio", help="And what was sung or played, as a .wav beside each: ask who plays.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A file that sets these options by their names, below \\[serve]; what is given here goes first. Left "
            "out: ~/.config/backline/config.toml ($XDG_CONFIG_HOME), if there is one; none: no file.",
            is_eager=True,
            callback=configured,
        ),
    ] = None,
) -> None:
    """Keep models resident and serve them over gRPC until Ctrl+C; open sessions may finish first.

    Example: [cyan]backline serve --load default[/]

    With a controller: [cyan]backline serve --osc 127.0.0.1:9050[/]

    For other machines: [cyan]backline serve --address 0.0.0.0:50505 --tls-cert cert.pem --tls-key key.pem[/]

    With a page for the browser: [cyan]backline serve --http 127.0.0.1:8090[/]
    """
    if (tls_cert is None) != (tls_key is None) or (tls_client_ca is not None and tls_cert is None):
        raise typer.BadParameter("TLS needs both: give --tls-cert and --tls-key")

    if log_audio and log_sessions is None:
        raise typer.BadParameter("--log-audio goes with --log-sessions: say where")

    import asyncio

    from backline.engine.precedence import take_short_turns
    from backline.service.allocator import keep_little

    keep_little()  # first of all: what follows starts threads
    take_short_turns()

    from backline.cli.logs import log_as_json
    from backline.service.gate import Gate, Tls
    from backline.service.server import serve as serve_until_signalled
    from backline.service.session_log import LogFolder
    from backline.service.unix_socket import user_socket
    from backline.whole_file import check_folder

    if socket is None:
        beside = None if address.startswith("unix:") else user_socket()
    else:
        beside = None if socket == "none" else f"unix:{socket.removeprefix('unix:')}"

    if log_sessions is not None:
        log_sessions.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(log_sessions)
    if log is options.LogFormat.JSON:
        log_as_json()
    gate = Gate(
        None if tls_cert is None or tls_key is None else Tls(tls_cert, tls_key, tls_client_ca), keys, trust_network
    )
    for option, door_address in {"--osc": osc, "--http": http}.items():
        if door_address is not None:
            gate.check_keyless(option, door_address)
    doors: list[Door] = [] if osc is None else [osc_door(osc)]
    if http is not None:
        doors.append(console_door(http, http_name or []))

    def ready(bound: str) -> None:
        print(f"listening on {bound}", flush=True)

    asyncio.run(
        serve_until_signalled(
            address,
            beside=beside,
            beside_if_free=socket is None,
            packs=packs or [],
            load=load or [],
            device=options.pick_device(device),
            rows=rows,
            max_sessions=max_sessions,
            load_limit=load_limit,
            idle_seconds=idle,
            lease_seconds=lease,
            doors=doors,
            metrics=metrics,
            names=[name.lower() for name in http_name or []],
            gate=gate,
            logs=None if log_sessions is None else LogFolder(log_sessions, log_audio),
            on_ready=ready,
        )
    )


def osc_door(address: str) -> Door:
    """The door at `address`, which plays on this machine's sound card by `backline live`."""
    from backline.cli.console import UserError

    try:
        from backline.doors.osc import OscDoor
    except ImportError as error:
        raise UserError(f"OSC needs a package that is not here ({error}): pip install 'backline[osc]'") from error
    return OscDoor(address, [sys.executable, "-m", "backline.cli.main", "live"])


def console_door(address: str, names: list[str]) -> Door:
    """The page at `address`, for browsers that reach it by `names` beside those of this machine."""
    from backline.cli.console import UserError

    try:
        from backline.doors.console.door import ConsoleDoor
    except ImportError as error:
        raise UserError(
            f"the page needs a package that is not here ({error}): pip install 'backline[console]'"
        ) from error
    return ConsoleDoor(address, names, lambda url: print(f"console at {url}", flush=True))
