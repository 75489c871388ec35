"""The output of nvidia-smi, for what the driver's library does not report. It may be wrong, fail or hang."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import List, Optional, Tuple

from pipeline.doctor import child

TIMEOUT = 2.0  # seconds
SHARED = 1024  # MiB in use above which other processes are reported
_FIELDS = (
    "uuid,index,name,memory.used,memory.total,ecc.mode.current,ecc.errors.uncorrected.volatile.total,"
    "retired_pages.single_bit_ecc.count,retired_pages.double_bit.count,retired_pages.pending"
)
_APPS = "pid,process_name,used_memory"
_ROWS = "gpu_uuid,remapped_rows.uncorrectable,remapped_rows.pending,remapped_rows.failure"  # Ampere's retired pages


@dataclass(frozen=True)
class Card:
    """A GPU as nvidia-smi shows it.

    `used` and `total` are MiB, `errors` counts uncorrected memory errors since the driver started, None if unknown;
    `retired` describes the memory that was retired, `pending` is whether more will be at the next restart, `failed`
    whether defective memory could not be replaced.
    """

    uuid: str
    line: str
    name: str
    used: Optional[int]
    total: str
    ecc: str
    errors: Optional[int]
    retired: str
    pending: bool
    failed: bool

    @property
    def health(self) -> str:
        """The state of its memory as text."""
        errors = "unknown" if self.errors is None else str(self.errors)
        return f"ECC {self.ecc}, uncorrected errors {errors}, {self.retired}"


@dataclass(frozen=True)
class SmiOutput:
    """The result of nvidia-smi (`outcome` is None if it is not installed), the GPUs and the processes it showed."""

    program: str = ""
    outcome: Optional[child.ProcessResult] = None
    start_error: str = ""
    cards: Tuple[Card, ...] = ()
    others: str = ""

    @property
    def text(self) -> str:
        """Everything it wrote."""
        return (self.outcome.out + self.outcome.err).strip() if self.outcome else ""


def query() -> SmiOutput:
    """Run nvidia-smi, if there is one; run it again only if its first output requires more details."""
    program = shutil.which("nvidia-smi")
    if not program:
        return SmiOutput()
    try:
        outcome = _run(program, "gpu", _FIELDS)
    except OSError as error:
        return SmiOutput(program, start_error=str(error))
    lines = _cells(outcome, 10)
    if not lines:
        return SmiOutput(program, outcome)
    shared = any((_number(cells[3]) or 0) > SHARED for cells in lines)
    remaps = any(cells[5].lower() == "enabled" and _number(cells[7]) is None for cells in lines)
    with ThreadPoolExecutor(2) as pool:
        apps = pool.submit(_run, program, "compute-apps", _APPS) if shared else None
        rows = pool.submit(_run, program, "remapped-rows", _ROWS) if remaps else None
        others = "; ".join(
            f"pid {pid} {name} {used} MiB" for pid, name, used in _cells(apps.result() if apps else None, 3)
        )
        remapped = {uuid: states for uuid, *states in _cells(rows.result() if rows else None, 4)}
    cards = tuple(_card(cells, remapped.get(cells[0])) for cells in lines)
    return SmiOutput(program, outcome, cards=cards, others=others)


def _run(program: str, kind: str, fields: str) -> child.ProcessResult:
    return child.run([program, f"--query-{kind}={fields}", "--format=csv,noheader,nounits"], TIMEOUT)


def _cells(outcome: Optional[child.ProcessResult], count: int) -> List[List[str]]:
    """Return the rows with the expected number of cells, since it also prints remarks and, when it fails, garbage."""
    if outcome is None or not outcome.ok:
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in outcome.out.splitlines()]
    return [row for row in rows if len(row) == count]


def _card(cells: List[str], remapped: Optional[List[str]]) -> Card:
    uuid, _, name, used, total, ecc, errors, single, double, pending = cells
    if _number(single) is not None:
        retired = f"{(_number(single) or 0) + (_number(double) or 0)} pages retired"
    elif remapped:
        retired = f"{remapped[0]} rows remapped"
    else:
        retired = "retired memory unknown"
    return Card(
        uuid=uuid,
        line=", ".join(cells[1:]),
        name=name,
        used=_number(used),
        total=total,
        ecc={"enabled": "on", "disabled": "off"}.get(ecc.lower(), "unknown"),
        errors=_number(errors),
        retired=retired,
        pending=_yes(pending) or bool(remapped and _yes(remapped[1])),
        failed=bool(remapped and _yes(remapped[2])),
    )


def _yes(cell: str) -> bool:
    return cell.lower() in ("yes", "1")


def _number(cell: str) -> Optional[int]:
    return int(cell) if cell.isdecimal() and cell.isascii() else None
