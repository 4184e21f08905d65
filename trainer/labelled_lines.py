"""Lines of several processes on one terminal, each with a label that tells whose it is."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO


class LabelledLines(io.TextIOBase):
    """A stream that passes on whole lines, each at once and with the label before it."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream, self._label, self._begun = stream, label, ""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # rich looks which letters it may draw with
        return self._stream.encoding

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._label}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def end(self) -> None:
        """Pass on a line that was not ended."""
        if self._begun:
            self.write("\n")


@contextmanager
def labelled_output(label: str) -> Iterator[None]:
    """Standard output and error with the label, also what logging writes there."""
    before = (sys.stdout, sys.stderr)
    labelled = tuple(LabelledLines(stream, label) for stream in before)
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    changed = [
        (handler, old, new)
        for handler in handlers
        for old, new in zip(before, labelled, strict=True)
        if handler.stream is old
    ]
    for handler, _, new in changed:
        handler.setStream(new)
    try:
        with redirect_stdout(labelled[0]), redirect_stderr(labelled[1]):
            yield
    finally:
        for stream in labelled:
            stream.end()
        for handler, old, _ in changed:
            handler.setStream(old)
