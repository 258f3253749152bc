"""The errors that posekit raises on purpose.

Everything that a user can cause derives from `PosekitError`; the command line turns these into one clear message and an
exit code. Anything else that escapes is a defect of posekit.
"""

from __future__ import annotations

from pathlib import Path


class PosekitError(Exception):
    """Base of all errors that posekit raises on purpose.

    The message is assembled from parts so that none is forgotten: what was wrong, the value that was met, what would be
    accepted, and what to do next.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        accepted: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.got = got
        self.accepted = accepted
        self.hint = hint
        parts = [what.rstrip(".")]
        if got is not None:
            parts.append(f"got {_shown(got)}")
        if accepted is not None:
            parts.append(f"accepted: {_shown(accepted)}")
        message = "; ".join(parts) + "."
        if hint:
            message += f" {hint.rstrip('.')}."
        super().__init__(message)


class InputError(PosekitError):
    """What the user gave (a file, a value, an option) cannot be used."""

    exit_code = 2


class MissingFileError(InputError):
    """A file or folder that is needed is not there."""


class FormatError(InputError):
    """A file is there but does not hold what its kind must hold."""


class UnsafeFileError(FormatError):
    """A pickle asks for code to be run; it is refused unopened."""


class ArtifactError(InputError):
    """An artifact is incomplete, damaged, of another kind, or from a newer posekit."""


class ConfigError(InputError):
    """A setting has a value that cannot work."""


class DataError(PosekitError):
    """The data are readable, but too poor for what was asked (too few views, frames, inliers...)."""


class TrainingError(PosekitError):
    """A training cannot go on (losses that are no numbers any more)."""


class OutputError(PosekitError):
    """A result cannot be written (read-only folder, full disk)."""


class DependencyError(PosekitError):
    """An optional package or file that this operation needs is not installed."""


def _shown(value: object) -> str:
    if isinstance(value, str | Path):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        items = [str(item) for item in value]
        return ", ".join(items[:12]) + (f" and {len(items) - 12} more" if len(items) > 12 else "")
    return str(value)
