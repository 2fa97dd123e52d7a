"""`backline doctor`: what is installed, what this machine can do, and what to do about each problem."""

from __future__ import annotations

import errno
import os
import platform
import re
import socket
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from backline.cli import options

REQUIRED = ("torch", "numba", "numpy", "grpcio", "protobuf", "safetensors", "soundfile", "soxr", "sounddevice")
OPTIONAL = {  # package: what it is for
    "torchaudio": "HuBERT semantics: pip install 'backline[hubert]'",
    "matplotlib": "the demo's picture: pip install 'backline[demo]'",
}
CPU_FEATURES = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")  # that make the kernels fast
REAL_TIME_FACTOR_LIMIT = 0.7  # above it, chunks come late when anything else runs


@dataclass
class Findings:
    """Rows of what was found, and problems with what to do about each."""

    rows: list[tuple[str, str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)  # nothing is broken, but something could be done


def doctor(packs: options.PackFolders = None, device: options.Device = "auto") -> None:
    """Say what is installed, how fast each pack is here, and what to do about each problem. Exit code 1 if any.

    Example: [cyan]backline doctor[/]
    """
    from rich.table import Table

    from backline.cli.console import console, labelled

    findings = Findings()
    for look in (look_at_software, look_at_machine):
        look(findings)
    look_at_packs(findings, packs or [], device)
    look_at_doors(findings)
    table = Table(show_header=False)
    for row in findings.rows:
        table.add_row(*row)
    console.print(table)
    for hint in findings.hints:
        console.print(labelled("could be better", hint, "yellow"), soft_wrap=True)
    for problem in findings.problems:
        console.print(labelled("problem", problem, "bold red"), soft_wrap=True)
    if findings.problems:
        raise typer.Exit(1)
    console.print("all is well", style="green")


def look_at_software(findings: Findings) -> None:
    findings.rows.append(("backline", version("backline"), ""))
    findings.rows.append(("Python", platform.python_version(), sys.executable))
    for name in REQUIRED:
        try:
            findings.rows.append((name, version(name), ""))
        except PackageNotFoundError:
            findings.problems.append(f"{name} is not installed: pip install backline")
    for name, purpose in OPTIONAL.items():
        try:
            findings.rows.append((name, version(name), ""))
        except PackageNotFoundError:
            findings.rows.append((name, "not installed", purpose))
    from backline.music.fluidsynth import missing, sound_font

    without = missing()
    findings.rows.append(("FluidSynth", "found" if without is None else "missing", "for training"))
    if without is None:
        findings.rows.append(("SoundFont", sound_font().name, str(sound_font())))
    else:
        findings.hints.append(f"`backline train` cannot render songs: {without}")
    try:
        import sounddevice

        findings.rows.append(("PortAudio", sounddevice.get_portaudio_version()[1].partition(",")[0], ""))
        if not len(sounddevice.query_devices()):
            findings.hints.append("no audio device: `backline live` can only work from file to file")
    except OSError:
        findings.hints.append("PortAudio is missing, which `backline live` needs (Debian: apt install libportaudio2)")
    except ImportError:
        pass  # reported above


def look_at_machine(findings: Findings) -> None:
    import psutil
    import torch

    from backline.kernels.compiled import place

    features, model = cpu_features()
    cores = f"{os.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    findings.rows.append(("CPU", model or platform.machine(), cores))
    findings.rows.append(("CPU features", " ".join(features) or "none known", ""))
    findings.rows.append(("compiled code", "kept" if place().kept else "not kept", place().description))
    if not place().kept:
        findings.hints.append(
            "every start compiles for a minute: set NUMBA_CACHE_DIR to a folder that can be written to"
        )
    if platform.machine() in {"x86_64", "AMD64"} and features and "avx2" not in features:
        findings.hints.append("the CPU has no AVX2: expect models to be several times slower than real time")
    if torch.cuda.is_available():
        findings.rows.append(("GPU", torch.cuda.get_device_name(), f"CUDA {torch.version.cuda}"))
    else:
        findings.rows.append(("GPU", "none", "models run on the CPU"))


def cpu_features() -> tuple[list[str], str]:
    """The features among CPU_FEATURES that this CPU has, and its name, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [], platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return [name for name in CPU_FEATURES if name in flags], facts.get("model name", platform.processor())


def look_at_doors(findings: Findings) -> None:
    """Reads the settings, and tries everything that `backline serve` would listen at with them."""
    from backline.cli.console import UserError
    from backline.cli.serve import serve
    from backline.cli.settings import effective, read_settings, settings_file
    from backline.service.access import access_file, read_keys
    from backline.service.gate import Gate, Tls

    app = typer.Typer(add_completion=False)
    app.command()(serve)
    command, settings = typer.main.get_command(app), {}
    path = settings_file()
    findings.rows.append(("settings", "found" if path.exists() else "none", str(path)))
    if path.exists():
        try:
            settings = read_settings(path, command)
        except UserError as error:
            findings.problems += str(error).splitlines()
    chosen = effective(command, settings)
    keys = chosen["keys"] or access_file()
    tls = Tls(chosen["tls_cert"], chosen["tls_key"], chosen["tls_client_ca"]) if chosen["tls_cert"] else None
    try:
        valid = [key.name for key in read_keys(keys) if key.revoked is None]
        findings.rows.append(("access keys", str(len(valid)), ", ".join(valid) or f"none in {keys}"))
        if tls is not None:
            if chosen["tls_key"] is None:
                raise OSError("TLS needs both: give tls-cert and tls-key")
            tls.credentials()
            findings.rows.append(("TLS", "ready", str(tls.certificate)))
            Gate(tls, keys).guests()
    except OSError as error:
        findings.problems.append(str(error))
    gate = Gate(tls, keys, chosen["trust_network"])
    for name, place in chosen.items():
        match = re.fullmatch(r"(.+):(\d{1,5})", place) if isinstance(place, str) else None
        if match is None or place.startswith("unix:"):
            continue
        try:
            if name == "address":
                gate.check(place, secure=tls is not None)
            else:
                gate.check_keyless(f"--{name}", place)
            findings.rows.append((f"door {name}", "free" if _is_free(match[1], int(match[2])) else "taken", place))
        except (OSError, OverflowError) as error:
            findings.problems.append(str(error))


def _is_free(host: str, port: int) -> bool:
    """Whether anything could listen there now. Raises OSError where the address is none of this machine's."""
    family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise OSError(f"nothing can listen at {host}:{port} ({error.strerror}): use another address") from None
            return False
    return True


def look_at_packs(findings: Findings, folders: list[Path], device: str) -> None:
    """Loads every pack and plays a few chunks with it."""
    from backline.cli.console import error_console
    from backline.engine.engine import default_config
    from backline.models.errors import PackError
    from backline.nn import threads
    from backline.packs.registry import PackRegistry

    threads.use_one()  # as the server does
    findings.rows.append(("torch threads", str(threads.count()), "as in the server"))
    registry = PackRegistry(folders, options.pick_device(device))
    for entry in registry.entries():
        try:
            with error_console.status(f"playing a few chunks with {entry.name}"):
                stream = registry.load(entry.name)
                factor = stream.warm_up(default_config(stream.spec))
        except PackError as error:
            findings.rows.append((f"pack {entry.name}", "damaged", str(entry.folder)))
            findings.problems.append(str(error))
            continue
        except Exception as error:  # of its warm-up; the other packs are looked at all the same
            findings.rows.append((f"pack {entry.name}", "damaged", str(entry.folder)))
            findings.problems.append(f"pack {entry.name} failed in its warm-up ({error}): install it again")
            continue
        findings.rows.append((f"pack {entry.name}", f"real-time factor {factor:.3f}", f"on {registry.device}"))
        if factor > REAL_TIME_FACTOR_LIMIT:
            findings.problems.append(
                f"pack {entry.name} takes {factor:.2f} s for a second of audio: chunks will come late; "
                "close other programs, use a GPU (--device cuda), or render offline with `backline render`"
            )
    if not any(entry.name == "default" for entry in registry.entries()):
        findings.problems.append(
            "there is no pack named default: install Backline again, or make one with `backline train default-pack`"
        )
