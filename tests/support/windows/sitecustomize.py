"""Python without what Windows has not: on the path of a process, it hides those names from our own packages.

Only from ours, since the libraries that run here are those for this system. `signal.SIGBREAK`, which only Windows has,
is SIGUSR2 here.
"""

import asyncio
import builtins
import os
import signal
import socket
import sys
from types import ModuleType
from typing import Any

MISSING_MODULES = {"fcntl", "grp", "pwd", "resource", "termios", "tty", "curses", "syslog"}
MISSING = {
    "os": {
        "chown", "fork", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority",
        "getresuid", "getuid", "killpg", "lchown", "mkfifo", "nice", "openpty", "sched_getaffinity",
        "sched_setaffinity", "setgid", "setpgid", "setpriority", "setsid", "setuid", "statvfs", "uname", "wait3",
    },
    "socket": {"AF_UNIX", "SO_PEERCRED", "SO_REUSEPORT", "sethostname"},
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2",
        "SIGXCPU", "SIGXFSZ", "alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait",
    },
}  # fmt: skip


def is_ours(space: dict[str, Any] | None) -> bool:
    return str((space or {}).get("__name__", "")).startswith(("backline", "__main__"))


class Windows(ModuleType):
    """A module, for our own packages without the names that it lacks there."""

    def __getattribute__(self, name: str) -> Any:
        lacked = MISSING[ModuleType.__getattribute__(self, "__name__")]
        if name in lacked and is_ours(sys._getframe(1).f_globals):
            raise AttributeError(f"Windows has no {name}")
        return ModuleType.__getattribute__(self, name)


signal.SIGBREAK = signal.SIGUSR2  # type: ignore[attr-defined]
for module in (os, socket, signal):
    module.__class__ = Windows


def no_handler(*_: object) -> None:
    raise NotImplementedError


asyncio.SelectorEventLoop.add_signal_handler = no_handler  # type: ignore[assignment,method-assign]
asyncio.SelectorEventLoop.remove_signal_handler = no_handler  # type: ignore[assignment,method-assign]

import_module = builtins.__import__


def import_what_is_there(name: str, globals: dict[str, Any] | None = None, *others: Any, **named: Any) -> Any:
    if name.partition(".")[0] in MISSING_MODULES and is_ours(globals):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return import_module(name, globals, *others, **named)


builtins.__import__ = import_what_is_there
