"""What the source may say: who imports whom, what is never called, how long a file may be."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("tokenizer", "transformer", "decoder", "kernels")
MAX_LINES = 400
LEAVES = {"kinolenta.errors", "kinolenta.config"}
MAY_IMPORT_KERNELS = {"transformer", "decoder"}
MAY_IMPORT_AV = {"kinolenta/media", "kinolenta/data/film.py"}  # the film is decoded from a pinned archive
MAY_UNPICKLE = {"kinolenta/data/fetch.py"}  # a restricted unpickler for one file that is pinned by checksum

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve", "yaml", "cloudpickle"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.save", "np.save",
    "pickle.load", "pickle.loads", "torch.hub.load", "runpy.run_path",
}  # fmt: skip
FORBIDDEN_METHODS = {"extractall", "extract"}
FORBIDDEN_TRUE = {"shell", "trust_remote_code", "allow_pickle"}


def sources() -> list[Path]:
    """Every Python file that is installed."""
    return sorted(path for folder in ("kinolenta", *STAGES) for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Modules that a file imports anywhere, type checking blocks included, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}: say kinolenta.<stage>"
            assert node.module is not None
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def breaches(path: Path, tree: ast.Module) -> Iterator[str]:
    """Imports that point the wrong way: kernels <- transformer, decoder; stages <- kinolenta alone."""
    name = name_of(path)
    stage = name.split("/")[0] if name.split("/")[0] in STAGES else None
    for module, line in imported(tree):
        where = f"{name}:{line} imports {module}"
        first, *rest = module.split(".")
        if first in STAGES:
            yield f"{where}: a bare stage name is another distribution"
        if first == "av" and not any(
            name == place or name.startswith(place + "/") for place in MAY_IMPORT_AV
        ):
            yield f"{where}: kinolenta.media is the only user of av"
        if first != "kinolenta":
            if name in ("kinolenta/errors.py", "kinolenta/config.py") and first in ("torch", "numpy", "av"):
                yield f"{where}: a leaf imports nothing heavy"
            continue
        target = rest[0] if rest else None
        if name == "kinolenta/errors.py" or (name == "kinolenta/config.py" and target != "errors"):
            yield f"{where}: a leaf imports no other module"
        if stage is None or target is None or target == stage:
            continue
        if target in STAGES:
            if not (target == "kernels" and stage in MAY_IMPORT_KERNELS):
                yield f"{where}: stages do not know each other"
        elif f"kinolenta.{target}" not in LEAVES:
            yield f"{where}: a stage knows only the leaves of kinolenta"


def forbidden(path: Path, tree: ast.Module) -> Iterator[str]:
    """Calls that can run code which came with data, and imports of what makes them."""
    name = name_of(path)
    may_unpickle = name in MAY_UNPICKLE
    for module, line in imported(tree):
        if module.split(".")[0] in FORBIDDEN_MODULES and not (may_unpickle and module.startswith("pickle")):
            yield f"{name}:{line} imports {module}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FORBIDDEN_CALLS or called.split(".")[-1] in FORBIDDEN_METHODS:
            yield f"{name}:{node.lineno} calls {called}"
        for keyword in node.keywords:
            is_true = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            if keyword.arg in FORBIDDEN_TRUE and is_true:
                yield f"{name}:{node.lineno} passes {keyword.arg}"


def test_imports_point_one_way() -> None:
    assert [text for path in sources() for text in breaches(path, parse(path))] == []


def test_nothing_runs_code_that_comes_with_data() -> None:
    assert [text for path in sources() for text in forbidden(path, parse(path))] == []


def test_files_are_short_enough_to_read() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in sources()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_kernels_is_no_package_for_others() -> None:
    """A __init__.py there would be taken for Hugging Face's 'kernels' whenever the root is on sys.path."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "__init__.py").exists()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("decoder/a.py", "from kinolenta.transformer import GPT"),
        ("decoder/a.py", "from kinolenta import transformer"),
        ("tokenizer/a.py", "import kinolenta.kernels"),
        ("kernels/a/b.py", "from kinolenta.decoder.config import VQGANConfig"),
        ("decoder/a.py", "from kinolenta.checkpoint import save_weights"),
        ("decoder/a.py", "def f():\n    from kernels.attention import attention"),
        ("kinolenta/errors.py", "import torch"),
        ("kinolenta/config.py", "from kinolenta.clip import Clip"),
        ("kinolenta/pipeline.py", "import av"),
    ],
)
def test_wrong_arrows_are_noticed(name: str, code: str) -> None:
    assert list(breaches(ROOT / name, ast.parse(code))) != []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from yaml import load",
        "torch.load(path)",
        "torch.save(a, b)",
        "eval('1')",
        "subprocess.run('ls', shell=True)",
        "AutoModel.from_pretrained(a, trust_remote_code=flag)",
        "archive.extractall(folder)",
        "np.load(path, allow_pickle=True)",
    ],
)
def test_forbidden_calls_are_noticed(code: str) -> None:
    assert list(forbidden(ROOT / "kinolenta" / "a.py", ast.parse(code))) != []
