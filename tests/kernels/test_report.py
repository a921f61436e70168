"""Every kernel, compiled ahead of time for every target: no spills, memory in limits, matrix instructions.

In processes of their own, since this one may run kernels in Triton's interpreter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("target", "jobs", "least"),
    [("sm_80", "quick", 55), ("sm_90", "core", 25), ("sm_100", "core", 25), ("gfx942", "core", 25)],
)
def test_binaries_are_without_fault(target: str, jobs: str, least: int, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "kernel_report.py"), "--jobs", jobs, "--targets", target],
        capture_output=True,
        text=True,
        timeout=900,
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_DEFAULT_FP_FUSION": "1"},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    assert facts["compiled"] >= least and facts["faults"] == 0
