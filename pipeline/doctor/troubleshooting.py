"""`docs/troubleshooting.md`, made of the table of findings: what the doctor says and what the pages say are one."""

from __future__ import annotations

from pipeline.doctor.findings import CHECKS, CODES, PASS, SKIP

_HEAD = """# Troubleshooting

What `python -m pipeline doctor` can find, by its code. The doctor fills in what stands in braces, `{command}` being the
command that mends it on that very machine. This page is made of `pipeline/doctor/findings.py` by
`python -m pipeline doctor --document > docs/troubleshooting.md`.

It runs on any Python from 3.8 up with nothing installed: `python3 -m pipeline doctor`, or for a machine with a GPU
`scripts/check_runpod_environment.sh`, which asks for `--device cuda`. Exit code 0: no check failed; 1: at least one
did; 2: wrong usage; 127: there is no Python. `--stage` judges what one stage needs, `--canary` also runs the configured
model, `LOG_LEVEL=debug` shows each rung of the way up, from reading files to running a model, and `--json` prints an
object:

```json
{
  "ok": false,
  "device": "cuda",
  "seconds": 0.8,
  "checks": [
    {
      "number": 2,
      "id": "cuda",
      "status": "fail",
      "findings": [
        {
          "code": "library_missing",
          "status": "fail",
          "message": "libcublas.so.12 is not on this machine",
          "evidence": "looked in /usr/lib, /lib",
          "fix": ".venv/bin/python -m pip install 'nvidia-cublas-cu12>=12.8,<13'"
        }
      ]
    }
  ]
}
```

All eight checks are in it, in this order: `gpu`, `cuda`, `cudnn`, `ffmpeg`, `python`, `packages`, `model`, `redis`. A
status is `pass`, `warn`, `fail`, `skip`, or `crash` where a check itself broke; a check has that of its worst finding.
`code` never changes its meaning; `message` and `fix` are for people, in the language of `--lang`.

`scripts/setup_runpod_complete.sh` installs what is missing: `--dry-run` prints its plan, `--yes` asks nothing. It may
be stopped and run again at any time.
"""


def document() -> str:
    """Return the page: an entry for each code that needs a remedy."""
    lines = [_HEAD]
    for check, names in [("any", ("Any check", "모든 점검")), *CHECKS.items()]:
        lines += [f"## {names[0]} · {names[1]}", ""]
        for code, kind in CODES.items():
            if kind.check != check or kind.status in (PASS, SKIP):
                continue
            lines += [
                f"### {code}",
                "",
                f"*{kind.status}* · {_sentence(kind.message[0])}. {kind.fix[0]}",
                "",
                f"{_sentence(kind.message[1])}. {kind.fix[1]}",
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
