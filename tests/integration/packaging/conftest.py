"""The wheel, built and installed without network into an environment that has nothing else of Voicemill's."""

import subprocess
import sys
from pathlib import Path

import pytest
from environments import Environment

CLONE = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder with the wheel and the source distribution of this clone."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=CLONE, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="session")
def wheel(built):
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def client_alone(wheel, tmp_path_factory):
    """An environment with the wheel and its dependencies alone."""
    return Environment.make(tmp_path_factory.mktemp("client") / "venv", wheel)


@pytest.fixture(scope="session")
def with_frameworks(wheel, tmp_path_factory):
    """An environment with the wheel, FastAPI and Django."""
    return Environment.make(tmp_path_factory.mktemp("frameworks") / "venv", wheel, "fastapi", "uvicorn", "django")
