"""The wheel holds every module and data file of the checkout, under the installed names."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("tokenizer", "transformer", "decoder", "kernels")


def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def installed_name(path: Path) -> str:
    """kernels/attention/mask.py -> kinolenta/kernels/attention/mask.py"""
    name = path.relative_to(ROOT).as_posix()
    return name if name.startswith("kinolenta/") else f"kinolenta/{name}"


def modules() -> set[str]:
    return {
        installed_name(path) for folder in ("kinolenta", *STAGES) for path in (ROOT / folder).rglob("*.py")
    }


def data_files() -> set[str]:
    """Files that pyproject.toml calls package data."""
    tool = settings()["tool"]["setuptools"]
    found = set()
    for package, patterns in tool["package-data"].items():
        first, *rest = package.split(".")
        stage = rest[0] if rest and rest[0] in STAGES else None
        folder = ROOT.joinpath(*rest) if stage else ROOT.joinpath(first, *rest)
        found |= {installed_name(path) for pattern in patterns for path in folder.glob(pattern)}
    return found


def test_every_folder_with_modules_is_a_listed_package() -> None:
    listed = set(settings()["tool"]["setuptools"]["packages"])
    folders = {name.rsplit("/", 1)[0].replace("/", ".") for name in modules()}
    # kinolenta.kernels itself holds no module: it only stands between.
    assert folders <= listed and listed - folders <= {"kinolenta.kernels"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_wheel_holds_every_module_and_data_file(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    copy = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", "build", "dist", "runs", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=ignored)
    code = (
        "import sys\nfrom setuptools import build_meta\n"
        "print(build_meta.build_wheel(sys.argv[1]))"  # no isolation, which would need a network
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=copy, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        held = {name for name in wheel.namelist() if not name.endswith("/")}
    assert modules() - held == set()
    assert data_files() - held == set()
    foreign = {name for name in held if not name.startswith("kinolenta")}
    assert foreign == set(), "other top-level names in the wheel would shadow other distributions"
    assert any(fnmatch(name, "kinolenta-*.dist-info/licenses/LICENSE") for name in held)
