"""The table of findings, the page generated from it, and the shape of the report."""

import ast
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.settings import Settings
from pipeline.doctor import render, target, troubleshooting, weights
from pipeline.doctor.checks import model
from pipeline.doctor.child import ProcessResult
from pipeline.doctor.findings import CHECKS, CODES, PASS, SKIP, finding
from pipeline.doctor.machine import DEVICES, Machine
from pipeline.doctor.report import Check, Report

CLONE = Path(__file__).parents[3]
BARE = [*(CLONE / "pipeline" / "doctor").rglob("*.py")] + [
    CLONE / name
    for name in (
        "pipeline/__init__.py",
        "pipeline/__main__.py",
        "config/__init__.py",
        "config/environment.py",
        "voicemill/__init__.py",
        "voicemill/address.py",
    )
]


def test_docs_troubleshooting_is_made_of_the_table():
    written = (CLONE / "docs" / "troubleshooting.md").read_text(encoding="utf-8")

    assert written == troubleshooting.document(), "python -m pipeline doctor --document > docs/troubleshooting.md"


@pytest.mark.parametrize("code", CODES)
def test_every_finding_says_the_same_in_both_languages_and_what_needs_a_remedy_has_one(code):
    kind = CODES[code]
    names = [set(re.findall(r"{(\w+)}", text)) for text in (*kind.message, *kind.fix)]

    assert names[0] == names[1]
    assert names[2] == names[3]
    assert all(kind.message)
    assert (kind.status in (PASS, SKIP)) == (not kind.fix[0])
    assert re.search("[가-힣]", kind.message[1]) or kind.message[1].isascii()


@pytest.mark.parametrize("name", sorted(str(path.relative_to(CLONE)) for path in BARE))
def test_what_runs_on_a_bare_machine_keeps_to_the_grammar_of_python_3_8_and_its_standard_library(name):
    tree = ast.parse((CLONE / name).read_text(encoding="utf-8"), feature_version=(3, 8))

    later = ("removeprefix", "removesuffix", "is_relative_to", "readlink")
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in later]
    if "doctor" in name or name == "voicemill/address.py":
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        assert {module.split(".")[0] for module in imported} <= {
            *sys.stdlib_module_names,
            "pipeline",
            "config",
            "voicemill",
        }
        assert {module for module in imported if module.startswith("voicemill")} <= {"voicemill.address"}


def test_the_codes_that_checks_use_are_those_of_the_table():
    text = "".join(path.read_text(encoding="utf-8") for path in (CLONE / "pipeline" / "doctor").rglob("*.py"))

    used = set(re.findall(r'finding\(\s*"(\w+)"', text)) | set(re.findall(r'_too_old\("(\w+)"', text))
    assert used <= set(CODES)


def test_a_failure_of_the_gpu_is_a_warning_where_the_cpu_will_do():
    report = Report("auto", (Check("gpu", (replace(finding("driver_absent"), demoted=True),)),))

    assert report.ok
    assert report.check("gpu").status == "warn"


def test_a_check_that_broke_is_not_a_pass():
    report = Report("cpu", (Check("redis", (finding("check_crashed", error="KeyError"),)),))

    assert not report.ok
    assert "CRASH" in render.text(report)


def test_the_table_lines_up_in_korean():
    checks = (
        Check("ffmpeg", (finding("ffmpeg_missing", program="ffmpeg"),)),
        Check("python", (finding("python_fit"),)),
    )

    lines = render.text(Report("cpu", checks), "ko").splitlines()

    rows = [(line, word) for line in lines for word in ("  실패  ", "  통과  ") if word in line]
    columns = [render._width(line.partition(word)[0]) for line, word in rows]
    assert len(rows) == 2
    assert len(set(columns)) == 1


@pytest.mark.parametrize(
    ("versions", "version", "accepted"),
    [
        (">=4.8.1,<5", "4.8.5", True),
        (">=4.8.1,<5", "4.8", False),
        (">=4.8.1,<5", "5.0", False),
        ("==0.1.0", "0.1", True),
        ("==2.*", "2.9.1", True),
        ("~=1.4.2", "1.5.0", False),
        ("!=3.1", "3.1.0", False),
        ("", "1", True),
    ],
)
def test_versions_are_compared_as_pip_does(versions, version, accepted):
    assert target.Requirement("x", versions).accepts(version) is accepted


def test_a_requirement_with_a_marker_counts_where_the_marker_does():
    line = "audioop-lts>=0.2.1; python_version >= '3.13'"

    assert target.parse(line, (3, 12)) is None
    assert str(target.parse(line, (3, 13))) == "audioop-lts>=0.2.1"


def test_the_doctor_and_the_engine_know_the_same_bundled_models():
    from pipeline.transcribe.backends.whisper import models

    assert {name: bundled.parts for name, bundled in models.BUNDLED.items()} == model.BUNDLED


def test_the_doctor_and_the_settings_take_the_same_values():
    fields = {"whisper_device": DEVICES, "whisper_compute_type": model.COMPUTE_TYPES}

    for field, values in fields.items():
        assert [getattr(Settings(**{field: value}), field) for value in values] == list(values)
        with pytest.raises(ValidationError) as caught:
            Settings(**{field: "none of them"})
        assert set(re.findall(r"[\w]+", str(caught.value))) >= set(values)


def test_a_file_that_is_shorter_than_any_header_is_truncated(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"\x06\0\0\0\x0c\0Whis")

    with pytest.raises(weights.InvalidWeights) as caught:
        weights.check(str(tmp_path / "model.bin"))

    assert caught.value.kind in ("truncated", "foreign")


def test_the_pinned_cublas_is_what_the_pinned_ctranslate2_asks_for():
    def pinned(name, file):
        return re.search(rf"^{name}==(\S+)", (CLONE / file).read_text(encoding="utf-8"), re.MULTILINE).group(1)

    machine = Machine("cuda", None, target.query(sys.executable), {})
    asked = target.parse(shlex.split(machine.cuda("cublas"))[-1], sys.version_info)

    assert machine.build.version == pinned("ctranslate2", "requirements.txt")
    assert asked.name == "nvidia-cublas-cu12"
    assert asked.accepts(pinned("nvidia-cublas-cu12", "requirements-cuda.txt"))


def test_the_command_documents_its_exit_codes():
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline", "doctor", "--help"], cwd=CLONE, capture_output=True, text=True, check=True
    )

    assert "1 at least one failed, 2 invalid usage" in ran.stdout


def test_a_report_in_korean_holds_no_english_words_of_ours():
    gone = ProcessResult(None, "", "", 8.0)
    made = finding("library_hangs", name="libcublas.so.12", ending=gone.endings, command="pip install x")

    assert made.message("ko") == "libcublas.so.12 로드가 끝나지 않습니다: 응답이 없어 8초 후 강제 종료함"
    assert made.message("en") == "loading libcublas.so.12 hangs: no response, killed after 8 s"


def test_one_remedy_for_several_findings_is_said_once():
    values = {"needed_by": "a backend", "wanted": "", "command": "make install"}
    missing = tuple(finding("package_missing", package=name, **values) for name in ("redis", "dramatiq"))

    text = render.text(Report("cpu", (Check("packages", missing),)))

    assert text.count("→ make install") == 1


def test_a_python_that_the_system_owns_is_not_installed_into():
    owned = target.Target("/usr/bin/python3", None, version=(3, 11), managed=True)

    assert "/usr/bin/python3" not in Machine("cuda", None, owned, {}).pip("x")
    assert "/usr/bin/python3" in Machine("cuda", None, replace(owned, managed=False), {}).pip("x")
    assert "/usr/bin/python3" in Machine("cuda", None, replace(owned, virtual=True), {}).pip("x")


def test_the_documented_object_has_the_shape_of_a_report():
    page = troubleshooting.document()
    example = json.loads(page.partition("```json")[2].partition("```")[0])
    report = Report("cuda", (Check("cuda", (finding("library_missing", "x", name="x", command="y"),)),)).as_dict()

    def shape(value):
        if isinstance(value, dict):
            return {name: shape(inner) for name, inner in value.items()}
        return [shape(value[0])] if isinstance(value, list) else type(value)

    assert shape(example) == shape(report)
    assert all(f"`{name}`" in page for name in CHECKS)
