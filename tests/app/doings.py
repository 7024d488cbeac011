"""What the processes of tests do instead of pictures; here, as they import it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from moesaic.app.limits import Limits
from moesaic.errors import ArgumentError

Send = Callable[[str, Any], None]


def act(given: str, send: Send, limits: Limits) -> None:
    """Do one of the things that a job could do to its process."""
    if given == "sleep":
        send("news", {"step": "sleeping"})
        time.sleep(600)
    elif given == "hold":
        held = bytearray(2**30)
        held[::4096] = b"x" * len(held[::4096])
        send("news", {"step": "holding"})
        time.sleep(600)
    elif given == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif given == "refuse":
        raise ArgumentError("the picture is upside down: pass Limits(x=3) to accept more")
    elif given == "break":
        raise ValueError("/secret/place is broken")
    elif given == "cannot write":
        raise ArgumentError("cannot write /secret/place: denied") from PermissionError(13, "denied")
    elif given == "full":
        raise ArgumentError("cannot write /secret/place: full") from OSError(28, "No space left on device")
    elif given == "no memory":
        raise MemoryError
    elif given == "damaged":
        raise ArgumentError("the picture is cut off") from OSError("image file is truncated")
    elif given == "break later":
        send("done", {"pid": os.getpid()})
        raise ValueError("/secret/place is broken")
    else:
        send("done", {"pid": os.getpid(), "threads": os.environ["MOESAIC_THREADS"]})
