"""Where a Whisper model's files are, and the errors if they are not there."""

from __future__ import annotations

import shlex
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.transcribe import ModelError
from pipeline.transcribe.backends.whisper import models


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


@pytest.mark.model
def test_bundled_weights_are_hashed_once_and_the_outcome_is_kept(tmp_path):
    folder = models.resolve("bundled:tiny.en", tmp_path)
    assert (folder / "tokenizer.json").is_file()
    kept = tmp_path / "tiny.en.verified.json"
    written = kept.stat().st_mtime_ns
    assert models.resolve("bundled:tiny.en", tmp_path) == folder
    assert kept.stat().st_mtime_ns == written, "the weights were hashed again"


@pytest.mark.model
def test_damaged_weights_are_refused_with_the_command_that_reinstalls_them(tmp_path):
    other = {"bundled:tiny.en": replace(models.BUNDLED["bundled:tiny.en"], sha256="0" * 64)}
    with pytest.raises(ModelError, match=r"damaged .* PIP_FORCE_REINSTALL=1 sh .*/install_pinned\.sh "):
        models.resolve("bundled:tiny.en", tmp_path, bundled=other)


def test_a_missing_package_is_reported(tmp_path):
    other = {"bundled:base": replace(models.BUNDLED["bundled:base"], parts=(("no_such_package", "model.bin"),))}
    with pytest.raises(ModelError, match="bundled:base is not installed: run sh "):
        models.resolve("bundled:base", tmp_path, bundled=other)


def test_missing_weights_are_reported_with_the_command_that_installs_their_package(tmp_path):
    absent = tuple((package, "absent") for package, _ in models.BUNDLED["bundled:base"].parts)
    other = {"bundled:base": replace(models.BUNDLED["bundled:base"], parts=absent)}
    with pytest.raises(ModelError, match="bundled:base is not installed") as raised:
        models.resolve("bundled:base", tmp_path, bundled=other)

    script, python, pins, *packages = shlex.split(str(raised.value).partition(": run sh ")[2])
    assert Path(script).is_file()
    assert python == sys.executable
    pinned = Path(pins).read_text()
    assert packages
    assert all(f"\n{package}==" in pinned for package in packages)


@pytest.mark.model
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
