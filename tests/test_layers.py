"""The layout holds: who may import whom, what loads on first use alone, who reads the environment."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for top in ("router", "dashboard") for path in (ROOT / top).rglob("*.py"))

# What a part of the project may import of the project, beside itself.
MAY = {
    "router.types": set(),
    "router.errors": {"types"},
    "router.log_settings": {"types"},
    "router.config": {"errors", "urls"},
    "router.elapsed": set(),
    "router.urls": set(),
    "router.spend_caps": {"errors"},
    "router.spend_day": {"errors", "log"},
    "router.spend": {"errors", "prices", "spend_caps", "spend_day", "types"},
    "router.policy_checks": {"policy", "urls"},
    "router.policy": {
        "policy_checks",
        "types",
        "errors",
        "log_settings",
        "policy_file",
        "spend_caps",
        "urls",
    },
    "router.policy_file": {"policy", "types", "errors", "log_settings", "spend_caps"},
    "router.policy_edit": {"policy", "config", "errors"},
    "router.prices": {"policy", "types", "errors"},
    "router.classifiers": {"elapsed", "policy", "types", "errors", "config", "presets", "providers"},
    "router.providers": {"elapsed", "policy", "types", "errors", "config"},
    "router.log": {"policy", "prices", "types", "errors", "log_settings"},
    "router.analysis": {"policy", "prices", "types", "errors"},
    "router.demo": {"errors", "log"},
    "router.prompts": {"errors", "types"},
    "router.failover": {"errors", "policy", "prompts", "providers", "types"},
    "router.reply_stream": {"errors", "failover", "providers", "types"},
    "router.endings": {"errors", "policy", "prompts", "types"},
    "router.resolve": {"classifiers", "config", "policy", "types"},
    "router.exploration": {"policy", "types"},
    "router.routing": {
        "exploration",
        "prompts",
        "endings",
        "resolve",
        "classifiers",
        "config",
        "errors",
        "log",
        "policy",
        "prices",
        "providers",
        "spend",
        "spend_caps",
        "types",
    },
    "router.calls": {
        "config",
        "elapsed",
        "endings",
        "errors",
        "failover",
        "prices",
        "prompts",
        "providers",
        "routing",
        "spend",
        "types",
    },
    "router.core": {"calls", "errors", "failover", "prompts", "providers", "reply_stream", "types"},
    "router.review": {"analysis", "errors", "log", "prices", "types"},
}
HEAVY = {
    "duckdb": ("router/log", "router/cli/doctor.py"),  # doctor names its version
    "streamlit": ("dashboard",),
    "plotly": ("dashboard",),
    "onnxruntime": ("router/classifiers",),
    "openai": ("router/providers",),
    "anthropic": ("router/providers",),
    "sklearn": ("router/classifiers",),
    "typer": ("router/cli",),
}
"""Packages that one part alone knows."""
LAZY = {
    "anthropic", "duckdb", "genai_prices", "httpx", "httpx2", "numpy", "onnxruntime", "openai", "pandas", "plotly", "pyarrow",
    "pydantic", "scipy", "sklearn", "streamlit", "tokenizers", "tomlkit", "typer", "wordllama",
}  # fmt: skip
"""Packages that load on first use."""


def imports(path):
    """Every imported module of a file as (name, whether at the top level)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module in ("router", "dashboard")
            for name in [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module]:
                yield name, id(node) in top


def part(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts[:2])


@pytest.mark.parametrize("path", [path for path in FILES if part(path) in MAY], ids=lambda path: part(path))
def test_parts_import_downwards_alone(path):
    own = part(path)
    foreign = {
        name.split(".")[1] for name, _ in imports(path) if name.split(".")[0] == "router" and "." in name
    }
    assert foreign - {own.split(".")[1]} <= MAY[own]
    assert not [name for name, _ in imports(path) if name.split(".")[0] == "dashboard"]


def test_only_the_two_verbs_that_serve_know_the_dashboard_and_only_when_called():
    found = [
        (path.relative_to(ROOT).as_posix(), top)
        for path in FILES
        if path.is_relative_to(ROOT / "router")
        for name, top in imports(path)
        if name.split(".")[0] == "dashboard"
    ]
    assert found == [("router/cli/demo.py", False)]


@pytest.mark.parametrize("package", HEAVY)
def test_a_heavy_package_is_known_to_one_part(package):
    places = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        for name, _ in imports(path)
        if name.split(".")[0] == package
    }
    assert places
    assert all(place.startswith(HEAVY[package]) for place in places), places


def test_only_the_configuration_reads_the_environment():
    found = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb"))
    }
    assert found == {"router/config.py"}


def test_pages_hold_no_sql_and_no_connection():
    for path in (ROOT / "dashboard").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "SELECT " not in text, path.name
        assert ".execute(" not in text, path.name


def test_there_is_no_folder_that_streamlit_would_run_pages_from():
    assert not (ROOT / "dashboard" / "pages").exists()


def test_policy_and_router_load_without_the_heavy_packages():
    code = "import sys; from router import Policy, Router; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not LAZY & set(result.stdout.split())
