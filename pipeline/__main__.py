"""`python -m pipeline COMMAND`: the same as `voicemill COMMAND`, in a clone.

The doctor is reached before anything else is imported, since it has to run on a bare machine: standard library alone
and the grammar of Python 3.8.
"""

from __future__ import annotations

import sys
from typing import List


def main(argv: List[str]) -> int:
    """Run one command and return its exit code."""
    doctor_wanted = argv[:1] == ["doctor"]
    oldest = (3, 8) if doctor_wanted else (3, 11)
    if sys.version_info < oldest:
        needed, found = ".".join(map(str, oldest)), sys.version.split()[0]
        raise SystemExit(f"voicemill {argv[0] if argv else ''}: needs Python {needed} or later, this is {found}")
    if doctor_wanted:
        from pipeline import doctor

        return int(doctor.main(argv[1:]))
    from voicemill import _cli

    return _cli.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
