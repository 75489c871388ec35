"""The actor `decode`: one object under two names, which never touches Dramatiq's global broker."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SAME = "import actors, voicemill; assert actors.decode is voicemill.decode, actors.decode"


def run(program):
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "imports",
    [
        "pass",
        "from voicemill import decode",
        "from actors import decode",
        "import actors.decode",
        "import actors.decode, actors.transcribe, actors.enrich, actors.webhook",
        "import importlib; importlib.import_module('actors.decode')",
        "import dramatiq.cli, actors.decode",
    ],
)
def test_actors_decode_is_voicemill_decode_whatever_was_imported_before(imports):
    run(f"{imports}; {SAME}; from actors import decode; assert decode is voicemill.decode")


@pytest.mark.parametrize("line", ["from voicemill import decode", "from actors import decode", "import actors.decode"])
def test_importing_the_actor_never_sets_the_global_broker(line):
    run(f"""
{line}
from dramatiq import broker
assert broker.global_broker is None
""")


def test_a_backend_s_own_actors_stay_on_its_own_broker():
    run("""
from voicemill import decode
import dramatiq
from dramatiq.brokers.stub import StubBroker
own = StubBroker()
dramatiq.set_broker(own)
from actors import decode as same

@dramatiq.actor
def answer(): pass

assert answer.broker is own and dramatiq.get_broker() is own
assert same is decode and decode.broker is not own
assert "decode" not in own.actors
""")
