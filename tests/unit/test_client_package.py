"""The package `voicemill`: its public names, what it needs to be imported, and where it may be imported."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import voicemill
from config.environment import STATE

ROOT = STATE.parent
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in sys.stdlib_module_names | {"voicemill", "cli", "config"}:
            raise ModuleNotFoundError(name + " is not of the standard library", name=name)
sys.meta_path.insert(0, Blocker())
"""


def fresh(program):
    """Run a program in an interpreter of its own and return what it prints."""
    environment = {"PATH": os.environ["PATH"], "REDIS_URL": "redis://127.0.0.1:1/0"}
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_every_public_name_can_be_imported():
    for name in voicemill.__all__:
        assert getattr(voicemill, name) is not None


def test_what_is_shown_as_public_is_what_is_public():
    shown = json.loads(fresh("import voicemill, json; print(json.dumps(dir(voicemill)))"))

    assert sorted(shown) == sorted(voicemill.__all__)


def test_type_checkers_see_the_names_that_are_imported_on_use():
    tree = ast.parse(Path(voicemill.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {(node.module, alias.asname) for node in block.body for alias in node.names}

    assert seen == {(f"voicemill.{module}", name) for name, module in voicemill._PLACES.items()}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'encode'"):
        _ = voicemill.encode


@pytest.mark.parametrize(
    "file", ["voicemill/__init__.py", "voicemill/address.py", "config/environment.py", "pipeline/__main__.py"]
)
def test_what_the_doctor_imports_has_the_grammar_of_python_3_8(file):
    ast.parse((ROOT / file).read_text(encoding="utf-8"), feature_version=(3, 8))


@pytest.mark.parametrize(
    "program",
    [
        "import voicemill; print(voicemill.__version__)",
        "from voicemill import address; print(address.from_environment().masked)",
        "from voicemill import webhooks; print(webhooks.generate())",
        "from voicemill import _cli; print(_cli.main(['--version']))",
    ],
)
def test_the_version_the_address_and_the_verification_of_webhooks_need_the_standard_library_alone(program):
    assert fresh(BLOCKER + program)


def test_the_actor_leaves_dramatiqs_global_broker_unset():
    assert fresh("from voicemill import decode; import dramatiq; print(dramatiq.broker.global_broker)") == "None"


def test_a_backends_own_actors_are_on_its_own_broker_whichever_is_imported_first():
    program = """
from voicemill import decode
import dramatiq
from dramatiq.brokers.stub import StubBroker
own = StubBroker()
dramatiq.set_broker(own)
greet = dramatiq.actor(lambda: None, actor_name="greet")
print(greet.broker is own, decode.broker is own, "decode" in own.actors)
"""
    assert fresh(program).split() == ["True", "False", "False"]


def test_the_version_is_defined_once():
    assert not [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version =")]
