"""Progress on a terminal as a bar with ETA, elsewhere as plain lines now and then; on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

PLAIN_EVERY = 10.0  # seconds between plain lines


def say(lines: list[str]) -> None:
    """Lines for the person who started the work, where the bars were."""
    print("\n".join(lines), file=sys.stderr, flush=True)


class Progress:
    """Counts `total` pieces of `what`; a context manager. Silent unless `enabled`."""

    def __init__(self, what: str, total: int, enabled: bool = True):
        self.what, self.total, self.done = what, total, 0
        self.speaks = enabled  # notes are for when there is nothing to count, too
        self.enabled = enabled and total > 0
        self.started = time.monotonic()
        self.spoke = -PLAIN_EVERY  # the first piece is reported at once
        self._bar = None

    def __enter__(self) -> Progress:
        if self.enabled and sys.stderr.isatty():
            import rich.console

            # The bar's thread imports this late, and TFDS may hold the import statement just then.
            import rich.markup  # noqa: F401
            import rich.progress as bars

            self._bar = bars.Progress(
                bars.TextColumn(f"{self.what:>8}"), bars.BarColumn(), bars.MofNCompleteColumn(),
                bars.TimeElapsedColumn(), bars.TextColumn("ETA"), bars.TimeRemainingColumn(),
                bars.TextColumn("{task.description}"),
                console=rich.console.Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self.total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, count: int, text: str = "") -> None:
        """`count` more are done; `text` says which."""
        self.done += count
        if self._bar:
            self._bar.update(self._task, advance=count, description=text)
        elif self.enabled:
            now = time.monotonic()
            if self.done >= self.total or now - self.spoke >= PLAIN_EVERY:
                self.spoke = now
                left = (now - self.started) / self.done * (self.total - self.done)
                print(
                    f"{self.what} {self.done}/{self.total} ETA {left:.0f} s {text}".rstrip(),
                    file=sys.stderr, flush=True,
                )

    def note(self, text: str) -> None:
        """A line of its own, above the bar."""
        if self._bar:
            self._bar.console.print(text, style="red", highlight=False, markup=False)
        elif self.speaks:
            print(text, file=sys.stderr, flush=True)
