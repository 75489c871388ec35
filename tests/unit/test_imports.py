"""Who may import what: a backend stays light, and a stage does not import another."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = [
    "ctranslate2",
    "faster_whisper",
    "google",
    "pydub",
    "av",
    "onnxruntime",
    "numpy",
    "pydantic",
    "structlog",
    "rich",
]
OURS = ["config", "pipeline.decode", "pipeline.transcribe", "pipeline.enrich", "pipeline.doctor", "cli"]
REPORT = "import sys, json; print(json.dumps(sorted(sys.modules)))"


def fresh(program, **variables):
    environment = {"PATH": os.environ["PATH"], **variables}
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    "line",
    [
        "from voicemill import decode",
        "from voicemill import AsyncClient, Client, Job, Transcript, webhooks",
        "from voicemill import Client; from voicemill.store import audio, jobs, outbox, spending, workers; Client()",
        "from voicemill._cli import dead, listing, status, submit",
    ],
)
def test_a_backend_loads_dramatiq_and_redis_and_nothing_heavy(line):
    # A package of Google's leaves a .pth file by which every interpreter starts with the empty namespace `google`.
    loaded = set(json.loads(fresh(f"{line}; {REPORT}"))) - set(json.loads(fresh(REPORT)))

    for name in HEAVY + OURS:
        assert not [module for module in loaded if f"{module}.".startswith(f"{name}.")], name


def test_the_import_of_the_actor_costs_at_most_1_3_times_that_of_dramatiq_and_redis():
    spec = importlib.util.spec_from_file_location("imports", ROOT / "bench" / "imports.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    ours, theirs = bench.measure(runs=3)

    for _ in range(5):
        if ours <= bench.LIMIT * theirs:
            break
        more = bench.measure(runs=3)  # on a busy machine the minimum of more runs is nearer to the true cost
        ours, theirs = min(ours, more[0]), min(theirs, more[1])

    assert ours <= bench.LIMIT * theirs


@pytest.mark.parametrize(
    "imports",
    [
        "from actors import decode",
        "import actors.decode; from actors import decode",
        "import importlib; importlib.import_module('actors.decode'); from actors import decode",
        "import actors; decode = actors.decode; from actors import decode",
        "from voicemill.store import jobs; import actors.decode; import actors; decode = actors.decode",
    ],
)
def test_decode_is_the_actor_in_every_order_of_imports(imports):
    assert fresh(f"{imports}; print(type(decode).__name__, decode.queue_name)").split() == ["Actor", "decode"]


def test_importing_the_package_declares_nothing():
    program = (
        "import actors, dramatiq; print(dramatiq.broker.global_broker, 'actors.decode' in __import__('sys').modules)"
    )
    assert fresh(program).split() == ["None", "False"]


def test_an_application_keeps_the_global_broker_that_it_has_set():
    program = """
import dramatiq
from dramatiq.brokers.stub import StubBroker
own = StubBroker()
dramatiq.set_broker(own)
from actors import decode
print(dramatiq.get_broker() is own, decode.broker is own)
"""
    assert fresh(program).split() == ["True", "False"]


def imported(path):
    """Yield the dotted names that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


RULES = {  # folder: what nothing in it imports
    "config": ["actors", "pipeline", "dramatiq"],
    "pipeline/decode": ["actors", "dramatiq", "pipeline.transcribe", "pipeline.enrich", "cli"],
    "pipeline/transcribe": ["actors", "dramatiq", "pipeline.decode", "pipeline.enrich", "cli"],
    "pipeline/enrich": ["actors", "dramatiq", "pipeline.decode", "pipeline.transcribe", "cli"],
    "pipeline/doctor": ["actors", "dramatiq", "cli"],
}


@pytest.mark.parametrize("folder", RULES)
def test_no_package_imports_what_is_above_or_beside_it(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            for forbidden in RULES[folder]:
                assert not (name + ".").startswith(forbidden + "."), f"{path.relative_to(ROOT)} imports {name}"


def test_only_the_command_line_in_pipeline_knows_the_actors():
    for path in (ROOT / "pipeline").glob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in ("actors", "dramatiq"), f"{path.name} imports {name}"
