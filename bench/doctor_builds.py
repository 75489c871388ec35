"""Does the doctor judge builds of ctranslate2 that it has never seen? It reads each wheel and is compared with FACTS.

Run: .venv/bin/python bench/doctor_builds.py [VERSION...]; downloads some 40 MB a version into a temporary folder.
"""

import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.doctor import build, libraries

# What each build is known to open at run time: major of cuBLAS, major of cuDNN, CUDA release of its PTX, first driver
# that compiles it, executable stack. Read from changelogs and from reports of users, not by the code under test.
KNOWN = {
    "4.0.0": (12, 8, (12, 2), 535, True),
    "4.4.0": (12, 8, (12, 2), 535, True),
    "4.5.0": (12, 9, (12, 2), 535, True),
    "4.6.0": (12, 9, (12, 2), 535, False),
    "newest": (12, None, (12, 8), 570, False),
}


def main(versions):
    wrong = 0
    print("build    cuBLAS  cuDNN  PTX of driver  stack  read in  H100 on a driver of CUDA 12.2, 12.4, 12.8")
    for version in versions:
        with tempfile.TemporaryDirectory() as folder:
            wanted = "ctranslate2" if version == "newest" else f"ctranslate2=={version}"
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--only-binary",
                ":all:",
                "-d",
                folder,
            ]
            subprocess.run([*command, wanted], check=True, stderr=subprocess.DEVNULL)
            wheel = next(Path(folder).glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            begun = time.perf_counter()
            read = build.read(f"{folder}/ctranslate2")
            seconds = time.perf_counter() - begun
            missing = [found.name for found in libraries.find(read, [folder]) if not found.chosen]
        driver = build.driver(read.cuda)
        seen = (read.cublas, read.cudnn, read.cuda, driver, read.core.executable_stack)
        judged = "as known" if seen == KNOWN.get(version, seen) else f"WRONG, known is {KNOWN[version]}"
        wrong += seen != KNOWN.get(version, seen)
        h100 = (9, 0)
        runs = [
            read.runs_as_machine_code(h100) or (read.runs_as_ptx(h100) and has >= read.cuda)
            for has in ((12, 2), (12, 4), (12, 8))
        ]
        cuda, stack = ".".join(map(str, read.cuda)), "exec" if read.core.executable_stack else "plain"
        verdicts = " ".join("runs" if each else "refused" for each in runs)
        print(
            f"{read.version:<8} {read.cublas or '-':>6} {read.cudnn or 'none':>6} {cuda:>7} {driver:>6} {stack:>6}"
            f" {seconds:>6.2f} s  {verdicts}; {judged}; wants {', '.join(missing) or 'nothing that is not here'}"
        )
    print(f"verdict: {len(versions) - wrong} of {len(versions)} builds judged as known")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(KNOWN)))
