"""Large JSON files, read item by item: the annotations of COCO would fill gigabytes as one Python object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from posekit.errors import FormatError, MissingFileError

_CHUNK = 1 << 20
_TAIL_OF_NUMBER = 3
_SPACE = re.compile(r"\s*")
_DECODER = json.JSONDecoder()


def array_items(path: Path, key: str) -> Iterator[Any]:
    """The items of the list under a key of the object that a JSON file holds, one at a time.

    Raises MissingFileError where there is no file, FormatError where it is no JSON, ends early or has no such list.
    """
    for text in _at_key(path, key):
        if text.peek() != "[":
            raise FormatError(f"{path}: {key} is no list", got=text.peek(), accepted="[ ... ]")
        yield from text.items()
        return
    raise FormatError(f"{path} has no list named {key}", hint="Check that it is a file of COCO annotations")


def object_value(path: Path, key: str) -> Any:
    """The value under a key of the object that a JSON file holds; None without it. Raises as `array_items`."""
    for text in _at_key(path, key):
        return text.value()
    return None


def _at_key(path: Path, key: str) -> Iterator[_Text]:
    """The text where the value of the key begins, or nothing."""
    try:
        with path.open(encoding="utf-8") as stream:
            text = _Text(path, stream)
            text.take("{")
            while text.peek() != "}":
                name = text.value()
                text.take(":")
                if name == key:
                    yield text
                    return
                text.skip()
                if text.peek() == ",":
                    text.take(",")
    except FileNotFoundError:
        raise MissingFileError("file not found", got=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {path}", got=error) from error


class _Text:
    """A window on a JSON text that grows as it is read."""

    def __init__(self, path: Path, stream: TextIO) -> None:
        self._path = path
        self._stream = stream
        self._buffer = ""
        self._at = 0
        self._before = 0

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            self._at = self._at if space is None else space.end()
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                raise self._broken("it ends early")

    def take(self, expected: str) -> None:
        """Goes past a character."""
        if self.peek() != expected:
            raise self._broken(f"{self.peek()!r} where {expected!r} was expected")
        self._at += 1

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                # Only what lies at the end of the window may merely be incomplete; strings are blamed where they begin.
                whole = not error.msg.startswith("Unterminated")
                far_from_end = whole and len(self._buffer) - error.pos > _CHUNK
                if far_from_end or not self._more():
                    raise self._broken(error.msg) from error
                continue
            # A number at the end of the window may go on behind it, and what is read of it may end in "e+".
            if len(self._buffer) - end < _TAIL_OF_NUMBER and self._more():
                continue
            self._at = end
            return value

    def items(self) -> Iterator[Any]:
        """The items of the list that comes next."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.peek() == "]":
                self.take("]")
                return
            self.take(",")

    def skip(self) -> None:
        """Goes past the next value."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def _more(self) -> bool:
        read = self._stream.read(max(_CHUNK, len(self._buffer) - self._at))
        if not read:
            return False
        self._before += self._at
        self._buffer = self._buffer[self._at :] + read
        self._at = 0
        return True

    def _broken(self, why: str) -> FormatError:
        return FormatError(
            f"{self._path} is damaged: {why}",
            got=f"character {self._before + self._at}",
            hint="Unpack or download it again",
        )
