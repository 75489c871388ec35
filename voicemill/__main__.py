"""`python -m voicemill`: the command `voicemill`."""

import sys

from voicemill._cli import main

if __name__ == "__main__":
    sys.exit(main())
