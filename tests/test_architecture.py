"""The arrows between packages, and what may not stand anywhere."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from posekit.cli.stages import COMMANDS

SOURCE = Path(__file__).resolve().parents[1] / "src" / "posekit"

# A package may import those of a lower level, and within its own level those that stand before it.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors", "atomic", "progress", "threads", "parallel"),
    ("config", "geometry", "skeleton"),
    ("records", "camera_stack", "body", "render"),
    ("artifacts", "datasets", "labeling", "registration", "models", "evaluation", "export"),
    ("synthetic", "training"),
    ("stages",),
    ("pipelines",),
    ("cli",),
    ("__main__",),
)
ORDER = [name for level in LEVELS for name in level]


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(("posekit", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module, node.lineno
            if node.module == "posekit":
                yield from ((f"posekit.{alias.name}", node.lineno) for alias in node.names)


def package(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def test_every_package_has_its_place() -> None:
    found = {package(name_of(path)) for path in modules()} - {"", "recipes"}
    assert found <= set(ORDER), f"without a place in LEVELS: {sorted(found - set(ORDER))}"


def test_imports_point_one_way() -> None:
    wrong = []
    for path in modules():
        importer = package(name_of(path))
        for module, line in imports(path):
            imported = package(module)
            if not module.startswith("posekit.") or imported not in ORDER or imported == importer or not importer:
                continue
            if ORDER.index(imported) > ORDER.index(importer):
                wrong.append(f"{path.relative_to(SOURCE)}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_no_stage_imports_a_stage() -> None:
    stages = {stage.partition(":")[0] for _, _, stage in COMMANDS}
    wrong = [
        f"{path.name}:{line} imports {module}"
        for path in (SOURCE / "stages").glob("*.py")
        for module, line in imports(path)
        if module in stages
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["posekit.cli.main", "posekit.config.training"])
def test_help_and_configs_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('torch', 'numpy', 'h5py', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_optional_packages_are_imported_only_where_they_are_asked_for() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {module}"
        for path in modules()
        for module, line in imports(path, top_level_only=True)
        if module.split(".")[0] in {"smplx", "pytorch3d", "anny"}
    ]
    assert not wrong, "\n".join(wrong)


def calls(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def test_nothing_below_the_command_line_prints_or_exits() -> None:
    forbidden = {"print", "exit", "quit", "sys.exit", "os._exit", "typer.Exit"}
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} calls {call}"
        for path in modules()
        if package(name_of(path)) != "cli"
        for call, line in calls(path)
        if call in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def unsafe_reads_of_tensors(path: Path) -> Iterator[int]:
    """Lines that read tensors of torch's own format otherwise than with the literal `weights_only=True`."""
    readers = {"torch.load", "load_state_dict_from_url", "get_state_dict"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        if call in readers or call.rpartition(".")[2] in readers:
            words = {word.arg: word.value for word in node.keywords}
            only = words.get("weights_only")
            if not (isinstance(only, ast.Constant) and only.value is True):
                yield node.lineno


def test_nothing_untrusted_is_unpickled_or_evaluated() -> None:
    forbidden = {"pickle.load", "pickle.loads", "eval", "exec", "yaml.load"}
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} calls {call}"
        for path in modules()
        for call, line in calls(path)
        if call in forbidden
    ]
    wrong += [
        f"{path.relative_to(SOURCE)}:{line} reads tensors without weights_only=True"
        for path in modules()
        for line in unsafe_reads_of_tensors(path)
    ]
    wrong += [
        f"{path.relative_to(SOURCE)} allows pickles"
        for path in modules()
        if "allow_pickle=True" in path.read_text(encoding="utf-8")
    ]
    assert not wrong, "\n".join(wrong)


def test_every_module_and_package_explains_itself() -> None:
    silent = [
        str(path.relative_to(SOURCE)) for path in modules() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert not silent, "\n".join(silent)


def test_public_functions_and_classes_have_docstrings() -> None:
    silent = []
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}")
    assert not silent, "\n".join(silent)


def test_tests_mirror_the_package() -> None:
    """Every test file of a package names a module of that package."""
    tests = Path(__file__).parent
    stray = []
    for folder in (path for path in tests.iterdir() if (SOURCE / path.name).is_dir()):
        known = {path.stem for path in (SOURCE / folder.name).rglob("*.py")}
        for test in folder.rglob("test_*.py"):
            stem = test.stem.removeprefix("test_")
            if not any(stem == name or stem.startswith(name) or name.startswith(stem) for name in known):
                stray.append(str(test.relative_to(tests)))
    assert not stray, "\n".join(stray)
