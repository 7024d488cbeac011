"""Large pictures from disk to disk: which inputs go band by band, and the drawing that explains what became of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from moesaic.cli.places import Job
    from moesaic.picture import Frame, Picture
    from moesaic.rows import Rows

Watch = Callable[["Picture", "Picture"], None]


def goes_by_rows(job: Job, *, pixel_limit: int, times: int = 1) -> bool:
    """Whether an input is so large, or what becomes of it, that it is never to be in memory as a whole."""
    from moesaic.rows import is_large

    return job.output is not None and is_large(job.source, pixel_limit=pixel_limit, times=times)


@dataclass(frozen=True, slots=True)
class Way:
    """From an input to its output."""

    source: Rows
    after: Frame  # of the output
    write: Callable[[NDArray[np.float32]], None]  # takes the next rows of the output
    sketch: Sketch


@contextmanager
def way_of(
    job: Job,
    *,
    becomes: Callable[[Frame], Frame],
    drawing: Path | None,
    pixel_limit: int,
    quality: int | None,
    force: bool,
    metadata: Literal["keep", "strip"],
) -> Iterator[Way]:
    """Within this an input is open, and its output is written: whole at the end, or not at all.

    Args:
        job: with its output.
        becomes: the output's frame, of the input's.
        drawing: see `Sketch`.
        pixel_limit: of the input.
        quality: of the output.
        force: replace an output that is there.
        metadata: as the verb has it.
    """
    from moesaic import rows
    from moesaic.cli import explained

    with _opened(job, pixel_limit=pixel_limit, quality=quality) as source:
        after, replaced = becomes(source.frame), explained.replaces(job, force=force)
        sketch = Sketch(drawing, source.frame, after, force=replaced, metadata=metadata)
        output = job.output or job.source
        with rows.write_rows(output, after, quality=quality, force=force, metadata=metadata) as write:
            yield Way(source, after, write, sketch)


@contextmanager
def _opened(job: Job, *, pixel_limit: int, quality: int | None) -> Iterator[Rows]:
    """The input, if its output can hold pictures of its kind."""
    import numpy as np

    from moesaic import image, rows

    with rows.open_rows(job.source, pixel_limit=pixel_limit) as source:
        if job.output is not None:
            corner = source.frame.filled(np.zeros((1, 1, source.frame.channels), np.float32))
            image.refuse_unfit(corner, job.output, quality=quality)  # now, not after minutes of work
        yield source


class Sketch:
    """Before and after, made small while their bands go by; nothing where there is no drawing to be made.

    Args:
        drawing: where it goes; None for none.
        before: the frame of the input.
        after: that of the output.
        force: replace a drawing that is there.
        metadata: as the verb has it.
    """

    def __init__(
        self,
        drawing: Path | None,
        before: Frame,
        after: Frame,
        *,
        force: bool,
        metadata: Literal["keep", "strip"],
    ) -> None:
        from moesaic.files import refuse_existing
        from moesaic.reduced import Reduced

        self._drawing, self._force, self._metadata = drawing, force, metadata
        if drawing is not None:
            refuse_existing(drawing, force=force)
            self._before, self._after = Reduced(before), Reduced(after)

    @property
    def watch(self) -> Watch | None:
        """What takes the bands."""
        return None if self._drawing is None else self._look

    def _look(self, before: Picture, after: Picture) -> None:
        self._before.add(before)
        self._after.add(after)

    def write(self, found: Any) -> None:
        """Draw it, for what was decided: before the output is in its place, which says that all of it is done."""
        import moesaic

        if self._drawing is not None:
            drawn = found.drawn(self._before.picture(), self._after.picture())
            moesaic.write_picture(drawn, self._drawing, force=self._force, metadata=self._metadata)
