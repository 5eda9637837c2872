#!/usr/bin/env python3
"""Whether windowed features of the flights are what SQL says: DuckDB over the CSV file, without Karst.

    windows.py --answers FILE [--csv FILE] [--deadline-us N]

FILE has one JSON object per line, one for each value that the engine gave:
    {"prefix": 8000, "class": "origin", "id": "EWR", "now": …, "ts": …, "feature": "departures__3600__", "value": 12}
`prefix`: how many records of the log were applied then; `now`: the instant asked for, `ts`: the one that the answer says it is of,
in microseconds. Lines of the class `watermark` have the log watermark of partition `id`.

Prints "… compared=N …"; exit status 1, and the first differences on standard error, if anything differs. The rules are those of
README.md in this folder and of docs/semantics.md, Windows; it shares no code with the engine. What it holds the engine to:

- a window of length W at T holds the flights with floor(T - W, hop) < departure <= T, of the first `prefix` records, not late;
- T is `now`, if that is a whole number of hops or not more than an hour before the newest event; else `now` or the hop before;
- counts, maxima, lists and distinct aircraft (never more than 512 here) are equal, means to 1e-9; the 95th percentile is the value of
  nearest rank, equal up to 128 values and within 1 % beyond.
"""

import argparse
import os
import sys

import duckdb

HOUR = 3_600_000_000
DAY = 24 * HOUR
MAX_FUTURE_SKEW = 300_000_000
# class, feature, window in seconds (none: all time), hop in µs, which column of the class's answers below
FEATURES = [
    ("origin", "departures", (3600, 86400), "flights"),
    ("origin", "mean_delay", (3600, 86400), "mean_delay"),
    ("origin", "p95_delay", (3600, 86400), "p95_delay"),
    ("origin", "max_delay", (3600, 86400), "max_delay"),
    ("origin", "aircraft", (86400,), "aircraft"),
    ("origin", "top_carriers", (86400,), "top_carriers"),
    ("aircraft", "flights", (86400, 604800), "flights"),
    ("aircraft", "last_destinations", (None,), "last_destinations"),
    ("route", "mean_air_time", (604800,), "mean_air_time"),
]


def hop(seconds):
    """The step of a window's tail by default: 1 m up to 1 h, 5 m up to 12 h, 1 h up to 12 d, else 1 d."""
    if seconds is None or seconds > 12 * 86400:
        return DAY
    return HOUR // 60 if seconds <= 3600 else HOUR // 12 if seconds <= 43200 else HOUR


# The log: records in the order in which flights become known, each with its partition, offset and whether it changes anything.
LOG = f"""
create table log as
with csv as (
  select row_number() over () as line, * from read_csv($csv, header = true, types = {{'time_hour': 'TIMESTAMP'}}, nullstr = ['NA', ''], parallel = false)
), flight as (
  select *, epoch_us(time_hour) + minute * 60000000 as scheduled,
    case when dep_time is not null then scheduled + dep_delay * 60000000 end as departure,
    case when dep_time is not null then departure + coalesce(air_time, 0) * 60000000 else scheduled end as known
  from csv
), placed as (
  select *, coalesce(departure, known) as event_time, least(coalesce(departure, known), known + {MAX_FUTURE_SKEW}) as reach,
    list_position(['EWR', 'JFK', 'LGA'], origin) - 1 as partition,
    row_number() over (order by known, line) as nth,
    row_number() over (partition by origin order by known, line) - 1 as "offset"
  from flight
)
select *, departure // {DAY} as utc_day,
  max(reach) over (partition by partition order by "offset" rows between unbounded preceding and 1 preceding) as watermark
from placed
"""
KEPT = """
create table kept as select * from log
where departure is not null and ($deadline is null or watermark is null or watermark - event_time <= $deadline)
"""
ANSWERS = """
create table answers as
select row_number() over () as line, * from read_json($answers, format = 'newline_delimited', columns = {prefix: 'BIGINT',
  class: 'VARCHAR', id: 'VARCHAR', now: 'BIGINT', ts: 'BIGINT', feature: 'VARCHAR', value: 'JSON'})
"""
# What is asked: each window of an entity at an instant once, whichever features want it. `tail`: it begins after that.
ASKED = f"""
create table asked as
select distinct a.class, a.id, a.prefix, a.ts, d.seconds,
  case when d.seconds is null then 0 else (a.ts - d.seconds * 1000000) // d.hop * d.hop end as tail
from answers a join declared d using (class, feature)
"""
WINDOW = "prefix, id, ts, tail"
# Airports have a hundred thousand flights each, so a window meets only those of the days that it touches.
ORIGIN = f"""
create table origin as
with window_day as (
  select {WINDOW}, unnest(range(tail // {DAY}, ts // {DAY} + 1)) as utc_day from asked where class = 'origin'
), inside as (
  select {WINDOW}, f.* from window_day w join kept f on f.origin = w.id and f.utc_day = w.utc_day
  where f.departure > w.tail and f.departure <= w.ts and f.nth <= w.prefix
), carriers as (
  select {WINDOW}, carrier, count(*) as n from inside group by all
), top as (
  select {WINDOW}, list(carrier order by n desc, carrier)[1:5] as top_carriers from carriers group by all
), summed as (
  select {WINDOW}, count(*) as flights, avg(dep_delay) as mean_delay, max(dep_delay) as max_delay, count(dep_delay) as delays,
    list_sort(list(dep_delay) filter (dep_delay is not null))[greatest((count(dep_delay) * 95 + 99) // 100, 1)] as p95_delay,
    count(distinct tailnum) as aircraft
  from inside group by all
)
select w.prefix, w.id, w.ts, w.tail, coalesce(flights, 0) as flights, mean_delay, max_delay, p95_delay,
  coalesce(delays, 0) as delays, coalesce(aircraft, 0) as aircraft, top_carriers
from (select distinct {WINDOW} from asked where class = 'origin') w
left join summed using ({WINDOW}) left join top using ({WINDOW})
"""
AIRCRAFT = f"""
create table aircraft as
select w.prefix, w.id, w.ts, w.tail, count(f.nth) as flights,
  list(f.dest order by f.departure desc, f.partition desc, f."offset" desc) filter (f.nth is not null) as destinations,
  destinations[1:3] as last_destinations
from (select distinct {WINDOW} from asked where class = 'aircraft') w
left join kept f on f.tailnum = w.id and f.departure > w.tail and f.departure <= w.ts and f.nth <= w.prefix
group by all
"""
ROUTE = f"""
create table route as
select w.prefix, w.id, w.ts, w.tail, avg(f.air_time) as mean_air_time
from (select distinct {WINDOW} from asked where class = 'route') w
left join kept f on f.origin || '-' || f.dest = w.id and f.departure > w.tail and f.departure <= w.ts and f.nth <= w.prefix
group by all
"""


def equal(column):
    """When a value (JSON, `value`) is what SQL says."""
    number = "value::varchar::double"
    null = f"({column} is null and coalesce(value::varchar, 'null') = 'null')"
    if column in ("last_destinations", "top_carriers"):
        return f"coalesce(value::varchar, 'null') = coalesce(to_json({column})::varchar, 'null')"
    if column in ("flights", "aircraft", "max_delay"):
        return f"{null} or coalesce(value::varchar = {column}::varchar, false)"
    allowed = "case when delays > 128 then 0.01 else 1e-9 end" if column == "p95_delay" else "1e-9"
    return f"{null} or coalesce(abs({number} - {column}) <= {allowed} * abs({column}), false)"


def main():
    cache = os.environ.get("KARST_CACHE") or os.path.expanduser("~/.cache/karst")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", required=True, help="what the engine answered, as JSON lines")
    parser.add_argument("--csv", default=f"{cache}/flights/flights.csv", help="default: %(default)s")
    parser.add_argument("--deadline-us", type=int, help="late_arrival_deadline, lane drop; default: infinity")
    options = parser.parse_args()

    db = duckdb.connect()
    db.execute("set threads = 2")
    db.execute("set TimeZone = 'UTC'")
    db.execute(LOG, {"csv": options.csv})
    db.execute(KEPT, {"deadline": options.deadline_us})
    db.execute(ANSWERS, {"answers": options.answers})
    db.execute("create table declared (class varchar, feature varchar, seconds bigint, hop bigint, answer varchar)")
    for kind, name, windows, answer in FEATURES:
        for seconds in windows:
            feature = f"{name}__{seconds or 'all'}__"
            db.execute("insert into declared values (?, ?, ?, ?, ?)", [kind, feature, seconds, hop(seconds), answer])
    db.execute(ASKED)
    for table in (ORIGIN, AIRCRAFT, ROUTE):
        db.execute(table)

    compared, wrong = 0, []

    def differences(query):
        nonlocal compared
        # Each row: how many lines there are, and what is wrong with this one (null: nothing).
        lines, told = db.execute(f"select count(*), list(wrong order by line) filter (wrong is not null) from ({query})").fetchone()
        compared += lines
        wrong.extend(told or [])

    # What instant an answer may be of. `newest`: how far time had come.
    newest = "(select prefix, max(reach) as newest from (select distinct prefix from answers) p join log on nth <= prefix group by 1)"
    checked = db.execute(f"""
      select a.class || ' ' || a.id || ' ' || a.feature || ' after ' || prefix || ' records: asked for ' || now || ', answered for ' || ts
      from answers a join declared d using (class, feature) join {newest} using (prefix)
      where ts <> now and (ts <> now // hop * hop or now >= newest - {HOUR}) order by line""").fetchall()
    wrong.extend(row[0] for row in checked)

    for kind, name, windows, answer in FEATURES:
        for seconds in windows:
            feature = f"{name}__{seconds or 'all'}__"
            tail = "0" if seconds is None else f"(a.ts - {seconds * 1_000_000}) // {hop(seconds)} * {hop(seconds)}"
            differences(f"""
              select a.line, case when e.prefix is null then a.line || ': not computed'
                when not ({equal(answer)}) then a.class || ' ' || a.id || ' ' || a.feature || ' at ' || a.ts || ' after ' || a.prefix
                  || ' records: SQL says ' || coalesce(e.{answer}::varchar, 'null') || ', answered ' || coalesce(a.value::varchar, 'null')
                end as wrong
              from answers a left join {kind} e on e.prefix = a.prefix and e.id = a.id and e.ts = a.ts and e.tail = {tail}
              where a.class = '{kind}' and a.feature = '{feature}'""")
    differences("""
      select a.line, case when value::varchar::bigint is distinct from reach then 'watermark of partition ' || id || ' after '
        || a.prefix || ' records: SQL says ' || coalesce(reach::varchar, 'none') || ', answered ' || coalesce(value::varchar, 'none') end as wrong
      from answers a left join (
        select p.prefix, l.partition, max(l.reach) as reach from (select distinct prefix from answers) p
        join log l on l.nth <= p.prefix group by all
      ) w on w.prefix = a.prefix and w.partition::varchar = a.id
      where a.class = 'watermark'""")

    kept, records = db.execute("select (select count(*) from kept), (select count(*) from log)").fetchone()
    print(f"sql records={records} kept={kept} compared={compared} wrong={len(wrong)}")
    if wrong:
        sys.exit("windows.py: " + "\n".join(wrong[:20]))


if __name__ == "__main__":
    main()
