"""Which browser the live page is tested in. As a program: exit code 0 where there is one, 1 where there is none."""

import os
import shutil
import subprocess
import sys
from functools import cache

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = (
    "no browser is installed; on Debian: apt-get install chromium; on Ubuntu: snap install chromium, or Google's Chrome"
)


@cache
def installed():
    """The path of a browser that runs (Ubuntu's apt has a stub that does not); None: there is none."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/snap/bin"))
    found = filter(None, (shutil.which(name, path=path) for name in NAMES))
    return next(
        (each for each in found if subprocess.run([each, "--version"], capture_output=True).returncode == 0), None
    )


if __name__ == "__main__":
    sys.exit(installed() is None)
