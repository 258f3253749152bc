"""The Typer app, and how errors become messages and exit codes: 0 done, 1 failed, 2 bad input or usage."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from posekit import __version__
from posekit.cli import inspection, stages
from posekit.cli.console import say
from posekit.errors import PosekitError

app = typer.Typer(
    name="posekit",
    help="3D human pose and body shape without 3D labels: one command per stage of the pipeline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"posekit {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """3D human pose and body shape without 3D labels: one command per stage of the pipeline."""


inspection.add_commands(app)
stages.add_commands(app)


def main() -> None:
    """The entry point of the command line."""
    # Threads that spin while they wait make torch many times slower on a machine that has other work, too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except PosekitError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("stopped; finished shards are kept, run the command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`posekit info x | head`); there is nobody left to tell.
        sys.stderr.close()
        sys.exit(1)
