"""What importing the package loads."""

import subprocess
import sys


def test_the_package_is_cheap_to_import_and_no_sdk_is_loaded_but_the_one_in_use():
    program = (
        "import sys, pipeline.enrich; print('pydantic' in sys.modules);"
        "import pipeline.enrich.enricher, pipeline.enrich.providers.gemini;"
        "print(any(name.startswith('google.gen') for name in sys.modules),"
        "'phonenumbers' in sys.modules, 'jsonschema' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["False"] * 4, run.stderr
