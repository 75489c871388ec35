"""The package imports neither Dramatiq nor a stage, and a backend does not load it."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
OTHERS = ("actors", "dramatiq", "pipeline.decode", "pipeline.transcribe", "pipeline.enrich", "cli", "web")


def test_the_package_imports_no_other_stage():
    for path in (ROOT / "pipeline" / "webhook").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not [name for name in names if name.startswith(OTHERS)], path.name


def test_a_backend_loads_neither_the_package_nor_urllib3():
    program = (
        "import sys; from voicemill import Client, decode; Client('redis://127.0.0.1'); decode.broker.store\n"
        "print([name for name in sys.modules if 'webhook' in name or 'urllib3' in name])"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "[]", run.stderr
