"""ctranslate2 finds libraries that pip installed without LD_LIBRARY_PATH."""

import json
import subprocess
import sys

import pytest
from world import CLONE, World

pytestmark = pytest.mark.catalogue

OPEN = """
import ctypes, json, sys
from pipeline.doctor import libraries
files = libraries.preload() if sys.argv[2] == "preload" else []
print(json.dumps([files, ctypes.CDLL(sys.argv[1]).cublasCreate_v2(ctypes.byref(ctypes.c_void_p()))]))
"""


def opened(world, how):
    command = [sys.executable, "-c", OPEN, world.core, how]
    variables = {"PYTHONPATH": f"{world.site}:{CLONE}"}
    return subprocess.run(command, env=variables, capture_output=True, text=True)


def test_preloading_makes_ctranslate2_find_what_pip_installed(tmp_path):
    world = World(tmp_path / "machine")
    without = opened(world, "not")
    preloaded = opened(world, "preload")

    assert without.returncode == -6, "cuBLAS is found without being preloaded: the test proves nothing"
    files, answer = json.loads(preloaded.stdout)
    assert files == [str(world.pip_cublas / f"lib{name}.so.12") for name in ("cublasLt", "cublas")]
    assert answer == 1  # the library's own answer: it is there, and there is no GPU
