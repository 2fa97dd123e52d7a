"""What Python's collector of garbage need not look through: all that is here to stay.

A server with a pack holds some 350,000 objects. To look through them takes .2 s or more, in which no thread computes,
and every session is late. And as the collector only does so once a quarter as many have come anew, what sessions leave
behind in circles, rings of audio among it, would lie for hours. Whatever stays is therefore set aside; then the
collector has only sessions to look through, does it often, and nobody hears it.
"""

from __future__ import annotations

import gc


def set_aside(quiet: bool) -> None:
    """What is here now is not looked through any more.

    Args:
        quiet: nobody plays, so there is time to look through everything first, and to let go of what is left of models.
    """
    if quiet:
        gc.unfreeze()
        gc.collect()
    gc.freeze()
