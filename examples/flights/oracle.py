#!/usr/bin/env python3
"""What the flights example must answer, computed without Karst: plain Python over the CSV file, one record at a time.

    oracle.py [--csv FILE] [--deadline 6h]... [--dump FILE] [--records FILE] [--check]

Prints one JSON object: for each deadline the counts by partition and in all, and a digest of the final feature values.
Tests compare the engine with it. It shares no code with the engine or the example, and is written from the rules of
README.md in this folder:

- scheduled = time_hour + minute; departure = scheduled + dep_delay; known = departure + air_time (missing: 0).
  A cancelled flight (no dep_time) is known at its scheduled departure and has no event time of its own.
- Records come in the order of `known`, ties in the order of the file; partitions EWR 0, JFK 1, LGA 2; offsets from 0.
- event time = departure, or where there is none the broker time, which is `known`.
- A record is late if (log watermark of its partition before it) - (event time) > deadline. The log watermark is the
  maximum over all earlier records of the partition, late and skipped ones too, of min(event time, known + 5 min).
- A late record changes nothing; neither does a cancelled one, which is counted as skipped (as late, if it is that too).
- Of several updates of a value the one with the greatest (event time, partition, offset) stays.

About `time_hour`: it is UTC ("2013-01-01T10:00:00Z" for five in the morning in New York). --check proves it, by
computing it again for every row from year, month, day and hour in America/New_York.
"""

import argparse
import csv
import functools
import hashlib
import json
import os
import re
import sys
from datetime import datetime, timezone

MINUTE = 60_000_000
MAX_FUTURE_SKEW = 5 * MINUTE
PARTITION = {"EWR": 0, "JFK": 1, "LGA": 2}
INFINITY = None
AIRCRAFT = ("last_flight", "last_origin", "last_destination", "last_departure_at", "last_departure_delay_minutes")
ROUTE = ("last_carrier", "last_departure_at", "last_air_time_minutes")

# What the data of 2013 must give; --check compares. deadline: (records, applied, late, skipped, digest).
PINNED = {
    "infinity": (336776, 328521, 0, 8255,
     "7c7f481ac2ff195d899562c063ad3e9f2409b02ba9f948bd00702e8613ebe4d6"),
    "6h": (336776, 327673, 848, 8255,
     "5b6371d1566b02a888cf45310d6c07c35246283d0fc87a0605031649b9600998"),
    "1h": (336776, 141831, 186690, 8255,
     "8bfedd907fb65de26128d42ccb575bc740da661eb992d45f3f142afab5d7b968"),
    "30m": (336776, 91087, 237434, 8255,
     "eed4d54174329ee1c8713d3e7635fceffc1f990e6fae2a694418cf57ffc1d5d1"),
}


@functools.lru_cache(maxsize=None)
def micros(text):
    """Microseconds since the epoch of "2013-01-01T10:00:00Z"."""
    at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return int(at.timestamp()) * 1_000_000


def whole(text):
    """A whole number, or None for a missing one."""
    return None if text in ("NA", "") else int(text)


def span(text):
    """Microseconds of "6h", "90m", "1h30m", "infinity"; None is infinity."""
    if text in ("infinity", "all"):
        return INFINITY
    unit = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
    parts = re.findall(r"(\d+)\s*(ms|[wdhms])\s*", text)
    if not parts or re.sub(r"\s", "", text) != "".join(n + u for n, u in parts):
        sys.exit(f'oracle.py: "{text}" is not a duration such as 6h, 1h30m or infinity')
    return int(sum(int(n) * unit[u] * 1_000_000 for n, u in parts))


def records(path):
    """The records of the topic in the order in which they are produced, each with its partition and offset."""
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            scheduled = micros(row["time_hour"]) + int(row["minute"]) * MINUTE
            departure = None
            known = scheduled
            air_time = whole(row["air_time"])
            if whole(row["dep_time"]) is not None:
                departure = scheduled + int(row["dep_delay"]) * MINUTE
                known = departure + (air_time or 0) * MINUTE
            rows.append((known, departure, air_time, row))
    rows.sort(key=lambda entry: entry[0])  # stable: ties stay in the order of the file
    next_offset = [0, 0, 0]
    for known, departure, air_time, row in rows:
        partition = PARTITION[row["origin"]]
        offset = next_offset[partition]
        next_offset[partition] += 1
        yield partition, offset, known, departure, air_time, row


def replay(log, deadline, verdicts=None):
    """Runs the whole log. Returns counts by partition and the final values, {(class, id): (order, values)}."""
    counts = [dict(records=0, applied=0, late=0, skipped=0) for _ in PARTITION]
    watermark = [None, None, None]
    values = {}

    def update(entity, order, new):
        if entity not in values or values[entity][0] < order:
            values[entity] = (order, new)

    for partition, offset, known, departure, air_time, row in log:
        event_time = known if departure is None else departure
        before = watermark[partition]
        late = deadline is not INFINITY and before is not None and before - event_time > deadline
        reach = min(event_time, known + MAX_FUTURE_SKEW)
        watermark[partition] = reach if before is None else max(before, reach)

        verdict = "late" if late else "skipped" if departure is None else "applied"
        counts[partition]["records"] += 1
        counts[partition][verdict] += 1
        if verdicts is not None:
            verdicts.append(verdict)
        if verdict != "applied":
            continue
        order = (event_time, partition, offset)
        if row["tailnum"] != "NA":
            flight = row["carrier"] + row["flight"]
            update(("aircraft", row["tailnum"]), order,
                   (flight, row["origin"], row["dest"], departure, int(row["dep_delay"])))
        update(("route", row["origin"] + "-" + row["dest"]), order, (row["carrier"], departure, air_time))
    return counts, values


def canonical(values):
    """One line per entity, tab-separated: class, id, values in declared order; times in microseconds, null as nothing.
    Lines are sorted as bytes and each ends with a line feed."""
    lines = []
    for (kind, key), (_, row) in values.items():
        lines.append("\t".join([kind, key] + ["" if value is None else str(value) for value in row]) + "\n")
    return "".join(sorted(lines)).encode()


def fnv1a64(data):
    """A digest that needs no library in any language."""
    state = 0xCBF29CE484222325
    for byte in data:
        state = ((state ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def in_words(counts, values):
    total = {name: sum(part[name] for part in counts) for name in counts[0]}
    data = canonical(values)
    by_class = {"aircraft": 0, "route": 0}
    for kind, _ in values:
        by_class[kind] += 1
    return {**total, "partitions": counts, **by_class,
            "sha256": hashlib.sha256(data).hexdigest(), "fnv1a64": fnv1a64(data)}


def dump(path, values):
    """Every entity as one JSON object per line, in the order of the canonical lines."""
    with open(path, "w") as out:
        for (kind, key), (order, row) in sorted(values.items()):
            names = AIRCRAFT if kind == "aircraft" else ROUTE
            fields = dict(zip(names, row))
            event_time, partition, offset = order
            json.dump({"class": kind, "id": key, **fields, "event_time": event_time, "partition": partition,
                       "offset": offset}, out)
            out.write("\n")


def check_time_hour(path):
    """That time_hour is what its documentation says: the scheduled hour, local in New York, in UTC."""
    from zoneinfo import ZoneInfo

    new_york = ZoneInfo("America/New_York")
    with open(path, newline="") as file:
        for line, row in enumerate(csv.DictReader(file), 2):
            local = datetime(*(int(row[name]) for name in ("year", "month", "day", "hour")), tzinfo=new_york)
            if int(local.timestamp()) * 1_000_000 != micros(row["time_hour"]):
                sys.exit(f"oracle.py: line {line}: time_hour {row['time_hour']} is not {local} in UTC")


def main():
    cache = os.environ.get("KARST_CACHE") or os.path.expanduser("~/.cache/karst")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", default=f"{cache}/flights/flights.csv", help="default: %(default)s")
    parser.add_argument("--deadline", action="append", help="late_arrival_deadline, may be repeated; "
                        "default: infinity, 6h, 1h and 30m")
    parser.add_argument("--dump", help="write the final values of the first deadline to this file, as JSON lines")
    parser.add_argument("--records", help="write every record's position, times and verdicts to this file, as JSON lines")
    parser.add_argument("--check", action="store_true", help="also compare with the figures pinned in this file, and "
                        "time_hour with the local time columns")
    options = parser.parse_args()
    deadlines = options.deadline or ["infinity", "6h", "1h", "30m"]

    log = list(records(options.csv))
    answer, verdicts, wrong = {}, {}, []
    for index, name in enumerate(deadlines):
        verdicts[name] = []
        counts, values = replay(log, span(name), verdicts[name])
        answer[name] = in_words(counts, values)
        if options.dump and index == 0:
            dump(options.dump, values)
        got = tuple(answer[name][key] for key in ("records", "applied", "late", "skipped", "sha256"))
        if options.check and name in PINNED and PINNED[name] != got:
            wrong.append(f"{name}: expected {PINNED[name]}, computed {got}")
    if options.records:
        with open(options.records, "w") as out:
            for index, (partition, offset, known, departure, _, _) in enumerate(log):
                json.dump({"partition": partition, "offset": offset, "broker_time": known, "event_time": departure,
                           "verdict": {name: verdicts[name][index] for name in deadlines}}, out)
                out.write("\n")
    print(json.dumps(answer, indent=2))
    if options.check:
        check_time_hour(options.csv)
        if wrong:
            sys.exit("oracle.py: " + "\n".join(wrong))


if __name__ == "__main__":
    main()
