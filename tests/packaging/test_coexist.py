"""A checkout on sys.path must not break transformers, which look for a distribution called 'kernels'."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("kernels", "tokenizer", "transformer", "decoder")
CHECK = """
import sys
sys.path.insert(0, sys.argv[1])
import transformers
from transformers import PreTrainedModel, pipeline
from transformers.utils import import_utils
import kinolenta, kinolenta.kernels.attention
ours = [name for name in sys.modules if name.split(".")[0] in {STAGES}]
print([name for name in ours if (getattr(sys.modules[name], "__file__", None) or "").startswith(sys.argv[1])])
"""


ANYTHING = """
class _AnyType(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __or__(cls, other):
        return cls


class Anything(metaclass=_AnyType):  # a class, a decorator, an enumeration: whatever is asked for
    def __init__(self, *args, **options):
        pass

    def __call__(self, target=None, *args, **options):
        return target


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return Anything
"""


def fake_distribution(folder: Path, version: str) -> None:
    """Another distribution called kernels, with the names that transformers takes from it."""
    (folder / "kernels").mkdir(parents=True)
    (folder / "kernels" / "__init__.py").write_text(f"__version__ = {version!r}\n{ANYTHING}")
    info = folder / f"kernels-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {version}\n")


@pytest.mark.slow
@pytest.mark.parametrize("version", [None, "0.18.2"])
def test_transformers_work_beside_a_checkout(tmp_path: Path, version: str | None) -> None:
    pytest.importorskip("transformers")
    others = []
    if version is not None:
        fake_distribution(tmp_path, version)
        others = [str(tmp_path)]
    # The other distribution stands after the root, as site-packages does.
    code = CHECK.replace("{STAGES}", repr(STAGES)).replace(
        "import transformers\n", f"sys.path.extend({others!r})\nimport transformers\n", 1
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "[]", "a stage was imported under its bare name"


@pytest.mark.slow
def test_the_trap_is_real(tmp_path: Path) -> None:
    """With a __init__.py in kernels/, the same check fails: if it passes one day, the rule can be dropped."""
    pytest.importorskip("transformers")
    fake_distribution(tmp_path / "site", "0.18.2")
    (tmp_path / "root" / "kernels").mkdir(parents=True)
    (tmp_path / "root" / "kernels" / "__init__.py").write_text("from kinolenta_absent import x\n")
    code = (
        f"import sys; sys.path[:0] = {[str(tmp_path / 'root')]!r}; from transformers import PreTrainedModel"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode != 0 and "kinolenta_absent" in done.stderr
