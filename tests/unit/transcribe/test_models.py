"""Where a model's files are, and what is said when they are not there."""

from __future__ import annotations

import shlex
import sys
import threading
from pathlib import Path

import pytest

from pipeline.transcribe import ModelError, models


def test_a_folder_is_taken_as_it_is(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\x06\x00\x00\x00weights")
    assert models.resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere/at/all", "does not exist"),
        ("bundled:huge", "bundled are bundled:tiny.en, bundled:base"),
        ("no-such-model", "There is no model 'no-such-model'"),
    ],
)
def test_a_name_that_means_nothing_is_refused_in_a_sentence(name, says):
    with pytest.raises(ModelError, match=says):
        models.resolve(name)


@pytest.mark.parametrize(
    ("content", "says"), [(None, "holds no model.bin"), (b"version https://git-lfs", "is a Git LFS pointer")]
)
def test_a_folder_without_weights_is_refused(tmp_path, content, says):
    if content:
        (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(ModelError, match=says):
        models.resolve(str(tmp_path))


def test_bundled_weights_are_hashed_once_and_the_verdict_is_remembered(tmp_path, monkeypatch):
    folder = models.resolve("bundled:tiny.en", tmp_path)
    assert (folder / "tokenizer.json").is_file()
    monkeypatch.setattr(models, "_sha256", lambda _: pytest.fail("the weights were read again"))
    assert models.resolve("bundled:tiny.en", tmp_path) == folder


def test_damaged_weights_are_refused_with_the_command_that_mends_them(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_sha256", lambda _: "0" * 64)
    with pytest.raises(ModelError, match=r"damaged .* PIP_FORCE_REINSTALL=1 sh .*/install_pinned\.sh "):
        models.resolve("bundled:tiny.en", tmp_path)


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(models.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="bundled:base is not installed") as raised:
        models.resolve("bundled:base", tmp_path)

    script, python, pins, *packages = shlex.split(str(raised.value).partition(": run sh ")[2])
    assert Path(script).is_file()
    assert python == sys.executable
    pinned = Path(pins).read_text()
    assert packages
    assert all(f"\n{package}==" in pinned for package in packages)


def test_two_workers_that_start_at_once_join_the_parts_once(tmp_path):
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(models.resolve("bundled:base", tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "base"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".base.lock", "base"]
    assert (tmp_path / "base" / "model.bin").stat().st_size == 145_217_607
