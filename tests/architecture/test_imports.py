"""What importing does: nothing but define names, and quickly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("tokenizer", "transformer", "decoder", "kernels")


def run(code: str) -> str:
    """Run code in a fresh interpreter at the root of the checkout; returns its output."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules() -> list[str]:
    """Import names of all installed modules, the command itself left out."""
    names = []
    for folder in ("kinolenta", *STAGES):
        prefix = "" if folder == "kinolenta" else "kinolenta."
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] == "__main__" or (parts[0] == "kernels" and parts[-1].startswith("triton")):
                continue
            names.append(prefix + ".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_import_of_the_package_loads_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "transformers", "tokenizers", "av", "triton", "typer", "tqdm", "safetensors"]
    code = f"import sys, kinolenta; dir(kinolenta); print([m for m in {heavy!r} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_public_names_can_all_be_had() -> None:
    code = "import kinolenta; print([str(getattr(kinolenta, name)) for name in kinolenta.__all__])"
    assert "VideoPipeline" in run(code)


def test_help_loads_nothing_heavy() -> None:
    heavy = ["torch", "numpy", "transformers", "tokenizers", "av", "rich", "tqdm"]
    code = (
        "import sys\nsys.argv = ['kinolenta', '--help']\nfrom kinolenta.cli import main\n"
        f"try:\n    main()\nexcept SystemExit:\n    print([m for m in {heavy!r} if m in sys.modules])"
    )
    assert run(code).strip().splitlines()[-1] == "[]"


WATCH = """
import importlib, json, locale, os, signal, sys, warnings
import torch

def state():
    return {
        "default dtype": str(torch.get_default_dtype()),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn tf32": torch.backends.cudnn.allow_tf32,
        "cudnn benchmark": torch.backends.cudnn.benchmark,
        "mkldnn": torch.backends.mkldnn.enabled,
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "cuda": torch.cuda.is_initialized(),
        "rng": torch.random.initial_seed() == 5 and torch.get_rng_state().sum().item(),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "interrupt": str(signal.getsignal(signal.SIGINT)),
        "warnings": len(warnings.filters),
        "path": sys.path[:],
    }

torch.manual_seed(5)
changed = {}
for name in json.loads(sys.argv[1]):
    before = state()
    importlib.import_module(name)
    after = state()
    # Libraries may set variables of their own; ours are those that name us.
    for values in (before, after):
        values["environment"] = {
            k: v for k, v in values["environment"].items() if "KINO" in k or "TORCH" in k
        }
    different = [key for key in before if before[key] != after[key] and key != "warnings"]
    if different:
        changed[name] = different
print(json.dumps(changed))
"""


@pytest.mark.slow
def test_import_of_any_module_changes_no_global_state() -> None:
    names = modules()
    assert "kinolenta.kernels.attention" in names and "kinolenta.media.reader" in names
    done = subprocess.run(
        [sys.executable, "-c", WATCH, json.dumps(names)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {}


def test_network_is_out_of_reach_in_tests() -> None:
    import socket

    with socket.socket() as out, pytest.raises(AssertionError, match="tried to reach"):
        out.connect(("192.0.2.1", 80))
