"""Who may import what: a backend stays light, a stage stays by itself."""

import ast
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
HOUSE = ["config", "pipeline.decode", "pipeline.transcribe", "pipeline.enrich", "pipeline.doctor", "cli"]
REPORT = "import sys, json; print(json.dumps(sorted(sys.modules)))"


def fresh(program, **variables):
    environment = {"PATH": os.environ["PATH"], **variables}
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    "line",
    [
        "from actors import decode",
        "from voicemill.store import jobs",
        "from voicemill.store import audio",
        "from actors import decode; from voicemill import errors, options; from voicemill.store import audio, jobs",
    ],
)
def test_a_backend_loads_dramatiq_and_redis_and_nothing_heavy(line):
    # A package of Google's leaves a .pth file by which every interpreter starts with the empty namespace `google`.
    loaded = set(json.loads(fresh(f"{line}; {REPORT}"))) - set(json.loads(fresh(REPORT)))

    for name in HEAVY + HOUSE:
        assert not [module for module in loaded if f"{module}.".startswith(f"{name}.")], name


def test_a_backend_pays_at_most_twice_the_import_of_dramatiq_and_redis():
    def seconds(line):
        """Return what the modules take, as -X importtime reports them; the interpreter's own start does not count."""
        report = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True
        ).stderr
        return sum(int(row.split(":")[1].split("|")[0]) for row in report.splitlines()[1:])

    # In turn, and the least of several runs: the machine at its quietest, for both alike; more where it is not quiet.
    ours, theirs = [], []
    while len(ours) < 3 or (min(ours) > 2 * min(theirs) and len(ours) < 15):
        ours.append(seconds("from actors import decode"))
        theirs.append(seconds("import dramatiq, redis, dramatiq.brokers.redis"))
    assert min(ours) <= 2 * min(theirs)


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
def test_no_room_reaches_into_another(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for name in imported(path):
            for forbidden in RULES[folder]:
                assert not (name + ".").startswith(forbidden + "."), f"{path.relative_to(ROOT)} imports {name}"


def test_only_the_command_line_in_pipeline_knows_the_actors():
    for path in (ROOT / "pipeline").glob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in ("actors", "dramatiq"), f"{path.name} imports {name}"
