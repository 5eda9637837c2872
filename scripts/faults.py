#!/usr/bin/env python3
"""Which tests of the table in docs/reliability.md were run, and how often each tried its fault.

    scripts/faults.py LOGS TRIED [--each]

LOGS is the folder of a run of scripts/test.sh, TRIED the file in which tests tell how often they tried (tests/support/tried.rs). With
--each a line for each test, `fault times=60 test=state/src/tests/files.rs::a_flipped_bit_…`; always one for all of them. A test
that tells nothing has tried once each time it passed; the crash harness tells by its own closing line.
"""

import collections
import pathlib
import re
import sys

logs, told = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
each = "--each" in sys.argv[3:]
page = pathlib.Path(__file__).parent.parent / "docs" / "reliability.md"
table = page.read_text().split("\n## Faults\n")[1]
tests = list(dict.fromkeys(re.findall(r"`([\w/]+\.rs::\w+)`", table)))

passed, kills = collections.Counter(), 0
for log in logs.glob("*.log"):
    text = log.read_text(errors="replace")
    names = re.findall(r"^test (\S+) \.\.\. (?:ok$)?", text, re.MULTILINE) if log.stem == "crash" else []
    names += [] if log.stem == "crash" else re.findall(r"^test (\S+) \.\.\. ok$", text, re.MULTILINE)
    if log.stem != "crash" or "test result: ok" in text:
        passed.update(name.rsplit("::", 1)[-1] for name in names)
    kills += sum(int(number) for number in re.findall(r"^crash kills=(\d+)", text, re.MULTILINE))
tried = collections.Counter()
if told.exists():
    for line in told.read_text().splitlines():
        name, times = line.split()
        tried[name] += int(times)

run, total = 0, 0
for test in tests:
    name = test.rsplit("::", 1)[-1]
    times = 0
    if passed[name]:
        times = kills if name.startswith("however_it_is_ended") else tried[name] or passed[name]
        run, total = run + 1, total + times
    if each:
        print(f"fault times={times} test={test}")
print(f"faults tests={run}/{len(tests)} tried={total}")
