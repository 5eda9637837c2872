"""W1 by Polars, as a batch: nothing is kept for the next event, and every (user, window) is materialised. Argument: the file, which must
have no malformed line.

Prints as its last line what it found: kept=… users=… cents=…
"""

import sys

import polars as pl

HOUR_MS, DAY_MS, DEADLINE_MS = 3_600_000, 86_400_000, 1_800_000
FIELDS = {"user_id": pl.String, "merchant": pl.String, "amount": pl.Float64, "status": pl.String, "ts": pl.Int64}
STATUSES = ["approved", "declined", "refunded", "pending"]

valid = pl.col("user_id").is_not_null() & (pl.col("amount") > 0) & pl.col("status").is_in(STATUSES) & pl.col("ts").is_not_null()
kept = (
    pl.scan_ndjson(sys.argv[1], schema=FIELDS)
    .filter(valid)
    .filter(pl.col("ts") >= pl.col("ts").cum_max() - DEADLINE_MS)
    .collect(engine="streaming")
)


def windows(length_ms):
    grouped = kept.lazy().group_by("user_id", pl.col("ts") // length_ms)
    return grouped.agg(count=pl.len(), sum=pl.col("amount").sum()).collect(engine="streaming")


hours, days = windows(HOUR_MS), windows(DAY_MS)
latest = kept.lazy().group_by("user_id").agg(pl.col("merchant", "amount", "status", "ts").sort_by("ts").last())
latest = latest.collect(engine="streaming")
assert hours["count"].sum() == days["count"].sum() == kept.height
cents = (kept["amount"] * 100).round().cast(pl.Int64).sum()
print(f"kept={kept.height} users={latest.height} cents={cents}")
