"""Generating `docs/troubleshooting.md` from the table of findings."""

from __future__ import annotations

from pipeline.doctor.findings import CHECKS, CODES, PASS, SKIP

LOWER_CASE = ("nvidia-smi", "ctranslate2", "maxmemory")  # names that stay so at the beginning of a sentence

_HEAD = """# Troubleshooting

The findings of `python -m pipeline doctor`, by code. The doctor fills in the names in braces; `{command}` is the
command that fixes the problem on the machine that was checked. This page is generated from
`pipeline/doctor/findings.py` with `python -m pipeline doctor --document > docs/troubleshooting.md`.

The doctor runs on any Python from 3.8 on, with nothing installed: `python3 -m pipeline doctor`, or
`scripts/check_runpod_environment.sh` on a machine with a GPU, which adds `--device cuda`. Exit code 0: no check failed;
1: at least one failed; 2: invalid usage; 127: no Python found. `--stage` checks what one stage needs, `--canary` also
runs the configured model, `LOG_LEVEL=debug` logs each diagnostic step, from reading files to running a model, and
`--json` prints an object:

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
          "message": "libcublas.so.12 is not installed",
          "evidence": "searched /usr/lib, /lib",
          "fix": ".venv/bin/python -m pip install 'nvidia-cublas-cu12>=12.8,<13'"
        }
      ]
    }
  ]
}
```

It always contains all eight checks, in this order: `gpu`, `cuda`, `cudnn`, `ffmpeg`, `python`, `packages`, `model`,
`redis`. A status is `pass`, `warn`, `fail`, `skip`, or `crash` if the check itself failed; the status of a check is
that of its worst finding. The meaning of a `code` never changes; `message` and `fix` are for people, in the language of
`--lang`.

`scripts/setup_runpod_complete.sh` installs what is missing: `--dry-run` prints the plan, `--yes` skips the
confirmation. It can be interrupted and run again at any time.
"""


def document() -> str:
    """Return the page: an entry for each code that has a fix."""
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
    return text if text.startswith(LOWER_CASE) else text[0].upper() + text[1:]
