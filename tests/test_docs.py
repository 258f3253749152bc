"""What the documents say is run and looked up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from posekit.cli.stages import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(document.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("document", [d for d in DOCUMENTS if blocks(d)], ids=lambda d: str(d.relative_to(ROOT)))
def test_every_block_runs(document: Path, tmp_path: Path) -> None:
    """All blocks of a document, in order, in one empty folder. `make` only says what it would do."""
    binaries = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}", "NO_COLOR": "1"}
    for language, text in blocks(document):
        if language == "sh":
            script = f'set -euo pipefail\nmake() {{ command make -n -C "{ROOT}" "$@"; }}\n{text}'
            command = ["bash", "-c", script]
        else:
            command = [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: str(d.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8"))
    dead = [
        target
        for target in targets
        if not target.startswith("http") and not (document.parent / target).resolve().exists()
    ]
    assert not dead


def test_files_that_documents_name_exist() -> None:
    missing = []
    for document in DOCUMENTS:
        for path in re.findall(
            r"`((?:src|tests|docs|examples|benchmarks)/[\w./-]+)`", document.read_text(encoding="utf-8")
        ):
            if not (ROOT / path).exists():
                missing.append(f"{document.name}: {path}")
    assert not missing


def test_the_readme_lists_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [typed for typed, _, _ in COMMANDS if f"posekit {typed}" not in readme]
    assert not missing


def test_examples_are_shell_scripts_that_parse() -> None:
    examples = sorted((ROOT / "examples").glob("*.sh"))
    assert examples
    for example in examples:
        assert os.access(example, os.X_OK), f"{example.name} is not executable"
        done = subprocess.run(["bash", "-n", str(example)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "set -euo pipefail" in example.read_text(encoding="utf-8")
