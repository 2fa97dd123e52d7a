"""Ableton Link: the tempo and beat that all programs of a network share.

The package LinkPython-extern has Link in it, which is under the GPL (version 2 or later): nothing else imports it, and
this only where `--link` asks for it.
"""

from __future__ import annotations

import time
from typing import Any

from backline.cli.beat import Beat
from backline.cli.console import UserError

FIRST_TEMPO = 120.0  # of a session that nobody else is in


class AbletonLink:
    """This program's part in the session. One thread."""

    def __init__(self, tempo: float | None, quarters_per_bar: float) -> None:
        """
        Args:
            tempo: that the session begins with, and plays, where nobody else is in it; None: then nothing is told.
            quarters_per_bar: Link's quantum: bars begin together.

        Raises:
            UserError: the package is not installed.
        """
        self._link: Any = link_package().Link(tempo or FIRST_TEMPO)
        self._link.startStopSyncEnabled = True
        self._link.enabled = True
        self._quantum = quarters_per_bar
        self._leads = tempo is not None
        self._starts_and_stops = False  # somebody in the session does

    @property
    def peers(self) -> int:
        """Other programs in the session."""
        return int(self._link.numPeers())

    @property
    def beat(self) -> Beat | None:
        """Of now; None: nobody has joined the session yet. It plays, unless somebody starts and stops it."""
        self._leads |= self.peers > 0
        if not self._leads:
            return None
        state = self._link.captureSessionState()
        before = time.monotonic()
        quarters = state.beatAtTime(self._link.clock().micros(), self._quantum)
        seconds = (before + time.monotonic()) / 2
        self._starts_and_stops |= state.isPlaying()
        playing = state.isPlaying() or not self._starts_and_stops
        return Beat(seconds, quarters, state.tempo(), playing)

    def close(self) -> None:
        """Leaves the session."""
        self._link.enabled = False


def link_package() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    try:
        import link
    except ImportError as error:
        raise UserError("--link needs LinkPython-extern (GPL): pip install 'backline[link]'") from error
    return link
