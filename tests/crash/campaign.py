"""`python -m tests.crash.campaign --kills N --seed S`: kill real servers under load, then check every promise.

Exits 1 where one broke, names what broke, and keeps the folder.
"""

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from codexdb.testing.torture import Report, Torture
from codexdb.testing.torture_scene import PHASES, STARTING


def table(report: Report) -> str:
    """The report as lines of text."""
    found = report.findings
    rows: list[tuple[str, object]] = [
        ("kills", report.kills),
        ("seed", report.seed),
        ("duration", f"{report.duration_s:.0f} s"),
        ("sessions", report.sessions),
        ("turns", found.turns),
        ("messages acknowledged", found.acknowledged),
        ("  kept", found.kept),
        ("  lost", found.lost),
        ("  delivered twice", found.delivered_twice),
        ("  sent more than once", report.repeated),
        ("commands run", found.commands),
        ("  run twice", found.run_twice),
        ("  outcome unknown", found.unknown),
        ("patches among them", found.patches),
        ("  cut off", found.patches_cut_off),
        ("questions asked", found.questions),
        ("  open at a kill", found.open_at_kills),
        ("  lost", found.questions_lost),
        ("  asked twice", found.asked_twice),
        ("  run without a yes", found.run_without_a_yes),
        ("events on record", found.events),
        ("  seen by clients", found.events_seen),
        ("turns hit by a kill", found.hit),
        ("  resumed to the text due", f"{found.resumed} ({found.resumed_percent:.2f} %)"),
        *((f"killed {phase}", report.phases[phase]) for phase in (*PHASES, STARTING)),
        ("promises broken", len(found.broken)),
    ]
    lines = [f"{name:<28}{value!s:>20}" for name, value in rows]
    lines += [f"not resumed: {each}" for each in found.not_resumed]
    lines += [f"BROKEN: {each}" for each in found.broken]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill servers under load and check the promises.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the folder also where nothing broke")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="codexdb-campaign-"))

    def progress(done: int, phases: Counter[str]) -> None:
        if done % 10 == 0:
            sys.stderr.write(f"{done} of {options.kills} kills: {dict(phases)}\n")

    report = Torture(folder, options.seed, progress).run(options.kills)
    sys.stdout.write(f"{table(report)}\nanswers: {dict(report.answers)}\n")
    if report.kept_its_promises and not options.keep:
        shutil.rmtree(folder)
        return 0
    sys.stdout.write(f"kept: {folder}\n")
    return 0 if report.kept_its_promises else 1


if __name__ == "__main__":
    sys.exit(main())
