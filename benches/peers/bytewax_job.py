"""W1 by Bytewax, in the form that costs it least: orjson, one worker, its state handed batches, in memory (no recovery store).

Per user the latest values and the counts and sums of the hour and of the day that are running; a window is emitted when the next one
begins. FILE=… names the input. Prints as its last line what it found: kept=… users=… cents=…
"""

import atexit
import os

import bytewax.operators as op
import orjson
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition

HOUR_MS, DAY_MS, DEADLINE_MS = 3_600_000, 86_400_000, 1_800_000
STATUSES = frozenset(("approved", "declined", "refunded", "pending"))
watermark = 0
found = {"kept": 0, "users": 0, "spent": 0.0}


def parse(line, loads=orjson.loads):
    """Decodes, validates, and drops what is late."""
    global watermark
    try:
        event = loads(line)
        user, merchant, amount, status, ts = event["user_id"], event["merchant"], event["amount"], event["status"], event["ts"]
    except (ValueError, KeyError, TypeError):
        return None
    if amount <= 0 or status not in STATUSES:
        return None
    if ts > watermark:
        watermark = ts
    elif ts < watermark - DEADLINE_MS:
        return None
    found["kept"] += 1
    return user, (merchant, amount, status, ts)


class User(StatefulBatchLogic):
    __slots__ = ("latest", "hour", "hour_count", "hour_sum", "day", "day_count", "day_sum")

    def __init__(self, state):
        if state is None:
            found["users"] += 1
            state = ((None, None, None, -1), -1, 0, 0.0, -1, 0, 0.0)
        self.latest, self.hour, self.hour_count, self.hour_sum, self.day, self.day_count, self.day_sum = state

    def on_batch(self, payments):
        ended = []
        for payment in payments:
            amount, ts = payment[1], payment[3]
            if ts >= self.latest[3]:
                self.latest = payment
            hour, day = ts // HOUR_MS, ts // DAY_MS
            if hour != self.hour:
                if self.hour >= 0:
                    ended.append((self.hour * HOUR_MS, HOUR_MS, self.hour_count, self.hour_sum))
                self.hour, self.hour_count, self.hour_sum = hour, 0, 0.0
            if day != self.day:
                if self.day >= 0:
                    ended.append((self.day * DAY_MS, DAY_MS, self.day_count, self.day_sum))
                self.day, self.day_count, self.day_sum = day, 0, 0.0
            self.hour_count += 1
            self.hour_sum += amount
            self.day_count += 1
            self.day_sum += amount
            found["spent"] += amount
        return ended, StatefulBatchLogic.RETAIN

    def snapshot(self):
        return (self.latest, self.hour, self.hour_count, self.hour_sum, self.day, self.day_count, self.day_sum)


class Nowhere(StatelessSinkPartition):
    def write_batch(self, items):
        pass


class Discard(DynamicSink):
    def build(self, *_):
        return Nowhere()


flow = Dataflow("features")
lines = op.input("read", flow, FileSource(os.environ["FILE"], batch_size=1000))
payments = op.filter_map("parse", lines, parse)
windows = op.stateful_batch("aggregate", payments, User)
op.output("discard", windows, Discard())
atexit.register(lambda: print(f"kept={found['kept']} users={found['users']} cents={round(found['spent'] * 100)}"))
