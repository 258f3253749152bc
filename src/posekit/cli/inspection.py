"""The commands that look and make nothing but a workspace: init, doctor, info, verify, log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from posekit.cli.console import print_json, print_table, say
from posekit.cli.workspace import FILE_NAME, TEMPLATE, Workspace
from posekit.errors import InputError, OutputError, PosekitError

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Adds the commands to the app."""
    for command in (init, doctor, info, verify, log):
        app.command()(command)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the workspace; made when it is not there.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace a posekit.toml that is there.")] = False,
) -> None:
    """Make a workspace: a folder with posekit.toml."""
    target = folder / FILE_NAME
    if target.exists() and not force:
        raise InputError("the folder is a workspace already", got=target, hint="Use --force to start it anew")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text(TEMPLATE, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {target}", got=error) from error
    sys.stdout.write(f"{target}\n")


def doctor(json: Json = False) -> None:
    """Say what is there and what is missing: machine, device, codecs, body, data."""
    from posekit.cli.checks import run_checks

    checks = run_checks(Workspace.find(Path.cwd()))
    if json:
        print_json([check.__dict__ for check in checks])
    else:
        print_table("", ["", "what", "found", "what to do"], [check.row() for check in checks])
    if any(check.state == "broken" for check in checks):
        raise typer.Exit(1)


def info(file: Annotated[Path, typer.Argument(help="An artifact.", show_default=False)], json: Json = False) -> None:
    """Show what an artifact holds."""
    from posekit.artifacts.files import Artifact

    with Artifact(file) as artifact:
        tables = {name: _describe(artifact, name) for name in artifact.kind.tables}
        header = artifact.header
        facts = {
            "file": str(file),
            "kind": f"{artifact.kind.name} (schema {artifact.kind.version}): {artifact.kind.about}",
            "made by": f"{header.stage}, posekit {header.version}",
            "skeleton": f"{header.skeleton.name} ({len(header.skeleton)} joints)" if header.skeleton else "none",
            "digest": artifact.digest,
            **{name.replace("_", " "): _short(value) for name, value in header.facts.items()},
        }
    if json:
        print_json({"header": facts, "tables": tables})
        return
    print_table("", ["", ""], [[name, str(value)] for name, value in facts.items()])
    for name, table in tables.items():
        rows = [[column["name"], column["type"], column["about"]] for column in table["columns"]]
        print_table(f"{name}: {table['rows']} rows", ["column", "type", "meaning"], rows)


def _describe(artifact: Any, table: str) -> dict[str, Any]:
    columns = []
    for column in artifact.columns(table):
        shape = f" x {' x '.join(str(size) for size in column.shape)}" if column.shape else ""
        ragged = "any number of " if column.ragged else ""
        columns.append({"name": column.name, "type": f"{ragged}{column.dtype}{shape}", "about": column.about})
    return {"rows": artifact.rows(table), "columns": columns}


def _short(value: Any, limit: int = 300) -> str:
    text = str(value)
    return text if len(text) <= limit else text[:limit] + " ..."


def verify(files: Annotated[list[Path], typer.Argument(help="Artifacts.", show_default=False)]) -> None:
    """Read artifacts whole and compare every column with the digest written when it was made."""
    from posekit.artifacts.files import Artifact

    failed: list[PosekitError] = []
    for file in files:
        try:
            with Artifact(file) as artifact:
                artifact.verify()
            sys.stdout.write(f"{file}: whole\n")
        except PosekitError as error:
            say(f"error: {error}")
            failed.append(error)
    if failed:
        raise typer.Exit(failed[0].exit_code)


def log(file: Annotated[Path, typer.Argument(help="An artifact.", show_default=False)], json: Json = False) -> None:
    """Show how an artifact was made: stage, settings, seed, and the inputs, as far back as they are at hand."""
    from posekit.cli.history import history

    entries = history(file, Workspace.find(file.resolve().parent).root)
    if json:
        print_json(entries)
        return
    for entry in entries:
        rows = [["stage", f"{entry['stage']} (posekit {entry['version']})"], ["digest", str(entry["digest"])[:16]]]
        rows += [["seed", str(entry["seed"])]] if entry["seed"] is not None else []
        rows += [[f"  {name}", _short(value)] for name, value in sorted(entry["settings"].items())]
        rows += [[f"input {role}", found] for role, found in entry["inputs"].items()]
        print_table(str(entry["file"]), ["", ""], rows)
