"""The import rules of the house, executed: what is pure stays pure, transitively, and nobody reaches past a door."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "reconciler"
PLUGINS = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.name.startswith("reconciler_"))

PURE = (
    "errors",
    "resource",
    "driver",
    "graph",
    "waves",
    "readiness",
    "gates",
    "plan",
    "policy",
    "report",
    "stack",
    "documents",
    "expressions",
    "cel",
)
ALSO_PURE = ("templates", "resolving", "invalid", "load")
STANDARD = {
    "os",
    "time",
    "random",
    "logging",
    "socket",
    "subprocess",
    "pathlib",
    "sqlite3",
    "threading",
    "urllib",
    "http",
    "ssl",
    "select",
    "signal",
    "tempfile",
    "shutil",
    "asyncio",
    "concurrent",
    "multiprocessing",
}
VENDOR = {
    "io",
    "git",
    "kubernetes",
    "cloudflare",
    "hvac",
    "asyncssh",
    "socketio",
    "sqlalchemy",
    "slack_sdk",
    "httpx",
    "requests",
    "aiohttp",
    "opentelemetry",
    "starlette",
    "uvicorn",
    "watchfiles",
    "tenacity",
    "alembic",
}
IO = STANDARD | VENDOR
LAZY_HELPERS = {
    ("cel", "cel"): "the native evaluator, loaded by the first expression that is more than a path; it does no I/O",
    ("expressions", "bcrypt"): "hashes passwords at the write of an account",
    ("registry", "importlib"): "finds installed plugins; called by the composition, never while loading",
}
VENDORS = {
    "reconciler_k8s": {"kubernetes"},
    "reconciler_cloudflare": {"cloudflare"},
    "reconciler_vault": {"hvac"},
    "reconciler_pfsense": {"asyncssh"},
    "reconciler_uptime_kuma": {"socketio"},
    "reconciler_probe": set[str](),
}
ALL_VENDORS = frozenset().union(*VENDORS.values())
CONTRACT = {"reconciler.driver", "reconciler.resource", "reconciler.errors", "reconciler.writing", "reconciler.cel"}
TOO_LONG_MODULES = {"reconciler/testing.py": "the promises of a driver are read from top to bottom, as its manual"}
TOO_LONG_FUNCTIONS: dict[str, str] = {}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Every module that a file imports; those only for the type checker left out, those inside functions only when ``lazy``."""
    return set(_imports(parsed(path).body, path, lazy))


def _imports(body: list[ast.stmt], path: Path, lazy: bool) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room they reach for"
            yield node.module or ""
            yield from (f"{node.module}.{one.name}" for one in node.names if is_module(f"{node.module}.{one.name}"))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.orelse, path, lazy)
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                inner = getattr(node, name, None)
                if isinstance(inner, list):
                    yield from _imports(inner, path, lazy)


def file_of(module: str) -> Path | None:
    """The file of a module of ours, or None."""
    for base in (ROOT, ROOT / "plugins"):
        path = base.joinpath(*module.split("."))
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    return None


def is_module(module: str) -> bool:
    return module.split(".")[0].startswith("reconciler") and file_of(module) is not None


def reached(module: str) -> dict[str, list[str]]:
    """Everything a room imports, directly or through other rooms of the package, each with the way to it."""
    found: dict[str, list[str]] = {}
    queue = [(module, [module])]
    while queue:
        name, way = queue.pop()
        path = file_of(name)
        assert path is not None, name
        for one in sorted(imports(path)):
            if one not in found and (name.removeprefix("reconciler."), one) not in LAZY_HELPERS:
                found[one] = [*way, one]
                if one.split(".")[0] == "reconciler" and file_of(one) is not None:
                    queue.append((one, found[one]))
    return found


@pytest.mark.parametrize("room", PURE + ALSO_PURE)
def test_a_pure_room_reaches_no_input_and_no_output_even_through_others(room: str) -> None:
    bad = [way for name, way in reached(f"reconciler.{room}").items() if name.split(".")[0] in IO]
    assert not bad, " -> ".join(bad[0])


def test_every_lazy_helper_that_is_allowed_is_used_and_imported_lazily_where_it_costs() -> None:
    for room, helper in LAZY_HELPERS:
        path = file_of(f"reconciler.{room}")
        assert path is not None
        assert helper in imports(path), f"{room} no longer imports {helper}; take it off the list"
        assert helper == "importlib" or helper not in imports(path, lazy=False), f"{room} must import {helper} where it is used"


def test_the_rule_bites_a_room_that_reaches_for_the_outside() -> None:
    assert any(name.split(".")[0] in IO for name in reached("reconciler.targets"))
    assert any(name.split(".")[0] in IO for name in reached("reconciler.engine"))


def test_the_core_imports_no_plugin() -> None:
    for path in sources(CORE):
        bad = [one for one in imports(path) if one.split(".")[0] in PLUGINS]
        assert not bad, f"{path.relative_to(ROOT)} imports {bad}"


def test_the_error_tree_imports_nothing() -> None:
    assert imports(CORE / "errors.py") <= {"collections.abc", "dataclasses"}


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_only_the_contract_its_own_files_and_its_vendor_library(plugin: str) -> None:
    for path in sources(ROOT / "plugins" / plugin):
        emulator = "emulator" in path.relative_to(ROOT / "plugins" / plugin).as_posix()
        allowed = CONTRACT | ({"reconciler.sandbox", "reconciler.sandbox.server"} if emulator else set())
        ours = {one for one in imports(path) if one.split(".")[0].startswith("reconciler")}
        bad = {one for one in ours if one.split(".")[0] != plugin and one not in allowed}
        assert not bad, f"{path.relative_to(ROOT)} imports {sorted(bad)}"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_only_the_client_of_a_plugin_imports_its_vendor_library(plugin: str) -> None:
    folder = ROOT / "plugins" / plugin
    for path in sources(folder):
        vendors = {one.split(".")[0] for one in imports(path)} & ALL_VENDORS
        name = path.relative_to(folder).as_posix()
        if "emulator" in name:
            continue  # a server may be built with the server's half of a library
        allowed = VENDORS[plugin] if name == "client.py" else set()
        assert vendors <= allowed, f"{plugin}/{name} imports {sorted(vendors - allowed)}"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_importing_a_plugin_imports_no_vendor_library(plugin: str) -> None:
    code = f"import sys, {plugin}; print(' '.join(sorted({{one.split('.')[0] for one in sys.modules}})))"
    loaded = set(run(code).split())
    assert not loaded & ALL_VENDORS


def test_only_telemetry_imports_the_sdk_of_opentelemetry() -> None:
    users = {path.relative_to(ROOT).as_posix() for path in every_source() if any(_is_sdk(one) for one in imports(path))}
    assert users <= {"reconciler/telemetry.py"}


def _is_sdk(module: str) -> bool:
    return module.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))


def test_only_the_settings_read_the_environment() -> None:
    """``git.py`` builds the environment of its child process, which is no setting."""
    readers = {path.relative_to(ROOT).as_posix() for path in every_source() if _reads_environment(parsed(path))}
    assert readers <= {"reconciler/settings.py", "reconciler/git.py"}


def _reads_environment(tree: ast.Module) -> bool:
    names = ("environ", "getenv", "environb", "EnvSettingsSource")
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names) or (isinstance(node, ast.Name) and node.id in names)
        for node in ast.walk(tree)
    )


def every_source() -> list[Path]:
    return [*sources(CORE), *sources(ROOT / "plugins")]


def test_a_module_has_at_most_400_lines() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in every_source()}
    long = {name: length for name, length in lengths.items() if length > 400 and name not in TOO_LONG_MODULES}
    assert not long
    assert all(lengths.get(name, 0) > 400 for name in TOO_LONG_MODULES), "an exception is no longer needed"


def test_a_function_has_at_most_40_lines() -> None:
    lengths: dict[str, int] = {}
    for path in every_source():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths[f"{path.relative_to(ROOT).as_posix()}:{node.name}"] = (node.end_lineno or 0) - node.lineno + 1
    assert not {name: length for name, length in lengths.items() if length > 40 and name not in TOO_LONG_FUNCTIONS}
    assert all(lengths.get(name, 0) > 40 for name in TOO_LONG_FUNCTIONS), "an exception is no longer needed"


@pytest.mark.skipif("def main" not in (CORE / "cli" / "__init__.py").read_text(), reason="there is no command line yet")
def test_starting_the_command_line_loads_no_heavy_library() -> None:
    heavy = ("kubernetes", "cloudflare", "hvac", "asyncssh", "socketio", "sqlalchemy", "git", "slack_sdk", "opentelemetry.sdk")
    loaded = set(run("import sys, reconciler.cli; print(' '.join(sys.modules))").split())
    assert not loaded & set(heavy)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50).stdout
