"""Fuzz the HTTP API with schemathesis: no request, valid or not by the OpenAPI description, may be answered by a 5xx.

    python bench/web_fuzz.py [--examples 100]

The server is `voicemill web` with a Valkey of its own; in place of the stages tests/stub_engine.py finishes each job at
once. The exit code is schemathesis's: 1 if a check failed.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from cli.embedded import valkey  # noqa: E402 - the repository is not installed
from web import auth  # noqa: E402

CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance,ignored_auth"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=100, help="most cases of each operation and phase")
    parser.add_argument("--checks", default=CHECKS)
    arguments = parser.parse_args()
    key, entry = auth.generate("fuzz")
    with tempfile.TemporaryDirectory() as folder, valkey(Path(folder), durable=False) as url:
        variables = os.environ | {"REDIS_URL": url, "API_KEYS": entry, "API_REQUESTS_PER_MINUTE": "0"}
        with Path(folder, "server.log").open("w") as log:
            stub = subprocess.Popen([sys.executable, ROOT / "tests" / "stub_engine.py", "0"], env=variables)
            server = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "web", "--port", "0"],
                cwd=ROOT,
                env=variables | {"LOG_FORMAT": "json"},
                stderr=log,
            )
            try:
                code = fuzz(arguments, address(Path(folder, "server.log"), server), key)
            finally:
                for process in (server, stub):
                    process.kill()
                    process.wait()
        faults = [line for line in Path(folder, "server.log").read_text().splitlines() if "Traceback" in line]
    print("\n".join(faults[:5]))
    print(
        "no server error found" if code == 0 and not faults else f"MISSED: exit code {code}, {len(faults)} tracebacks"
    )
    sys.exit(code or bool(faults))


def address(log, server):
    """Wait until the server has logged its address, and return it."""
    while server.poll() is None:
        time.sleep(0.1)
        if found := re.search(r"127\.0\.0\.1:\d+", log.read_text()):
            return f"http://{found[0]}"
    raise SystemExit(log.read_text())


def fuzz(arguments, url, key):
    """Run schemathesis and return its exit code."""
    command = [Path(sys.executable).with_name("schemathesis"), "run", f"{url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {key}", "--checks", arguments.checks, "--no-color"]
    command += ["--max-examples", str(arguments.examples), "--request-timeout", "30", "--seed", "1"]
    return subprocess.run(command, cwd=ROOT).returncode


if __name__ == "__main__":
    main()
