"""
The outbox on disk: messages, who is to get them, and how far each has come. SQLite, every step its own transaction.

A delivery is `pending`, `sending` (claimed: if the process dies now, nobody knows whether it went out), `delivered`,
`merged` (told of in a digest, or in the all-clear that overtook it) or `dead` (given up); earlier versions also wrote
`moved`, for what they left to a fallback alone. One process at a time sends, by a file lock that dies with it; any may
enqueue. Times are wall-clock seconds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from slo.errors import StoreError
from slo.files import locked
from slo.watch.delivery.outbox_file import Delivery, OutboxFile, decode, encode
from slo.watch.delivery.sinks.outcome import Limit, TokenBucket
from slo.watch.model.notification import Notification

LONGEST_WAIT_S = 3600.0  # a due time further ahead comes from a clock that was wrong: it is due now
KEEP_S = 30 * 86400.0

LATE_S = 60.0  # a message that waited longer has news overtake it

_DUE = """
    SELECT d.seq, d.event_id, d.sink, d.rank, d.attempts, d.doubtful, d.instead_of, m.enqueued_s, m.body,
      EXISTS (SELECT 1 FROM deliveries t WHERE t.sink = d.sink AND t.group_key = d.group_key AND t.state = 'merged'
              AND t.digest = d.event_id)
    FROM deliveries d JOIN messages m USING (event_id)
    WHERE d.sink = :sink AND d.state = 'pending' AND (d.due_s <= :now OR d.due_s > :now + :longest)
      AND NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.sink = d.sink AND e.group_key = d.group_key
                      AND e.state = 'pending' AND e.seq < d.seq AND e.due_s > :now)
    ORDER BY {order} LIMIT :limit
"""


class OutboxStore(OutboxFile):
    """The database at `path`, and its lock beside it."""

    _pruned_s = float("-inf")

    @contextmanager
    def sole_sender(self) -> Iterator[bool]:
        """True while no other process sends; the lock goes with the process that holds it."""
        path = self.path.with_suffix(".lock")
        with ExitStack() as stack:
            try:
                lock = stack.enter_context(path.open("a"))
                mine = locked(lock.fileno())
            except OSError as error:
                raise StoreError(f"{path}: cannot be locked: {error.strerror}", hint="fix its permissions") from error
            yield mine

    def add(self, notification: Notification, sinks: Sequence[str], rank: int, now: float) -> bool:
        """Put a message in for `sinks`, once per event id; False when it was there before."""
        with self.transaction() as db:
            row = (notification.event_id, now, encode(notification))
            fresh = db.execute("INSERT OR IGNORE INTO messages VALUES (?, ?, ?)", row).rowcount > 0
            for sink in sinks:
                _address(db, notification.event_id, sink, notification.group_key, rank, now)
        return fresh

    def notified_channels(self, group_key: str) -> tuple[str, ...]:
        """The channels that were told of an alert since it last resolved, or still will be; fallbacks included."""
        text = """SELECT DISTINCT sink FROM deliveries WHERE group_key = :group AND state NOT IN ('moved', 'dead')
                  AND seq > coalesce((SELECT max(seq) FROM deliveries JOIN messages m USING (event_id)
                   WHERE group_key = :group AND json_extract(m.body, '$.status') = 'resolved'), 0)"""
        with self.transaction() as db:
            return tuple(row[0] for row in db.execute(text, {"group": group_key}))

    def recover(self) -> int:
        """What a dead process left in `sending` is pending again, and doubtful. Call it as the sole sender."""
        with self.transaction() as db:
            return db.execute("UPDATE deliveries SET state='pending', doubtful=1 WHERE state='sending'").rowcount

    def due(self, sink: str, now: float, limit: int = 1) -> list[Delivery]:
        """What may go to `sink` now: most urgent first, and one alert's messages in their order."""
        # Equal ranks go in order of entry; within a group nothing overtakes, since a resolve waits for its alert.
        order = """max(d.rank, coalesce((SELECT max(e.rank) FROM deliveries e WHERE e.sink = d.sink
                   AND e.group_key = d.group_key AND e.state = 'pending' AND e.seq < d.seq), 0)), d.seq"""
        values = {"sink": sink, "now": now, "longest": LONGEST_WAIT_S, "limit": limit}
        with self.transaction() as db:
            rows = db.execute(_DUE.format(order=order), values).fetchall()
        found = []
        for r in rows:
            try:
                found.append(
                    Delivery(r[0], r[2], r[3], r[4], bool(r[5]), r[6], r[7], decode(r[8]), overtook=bool(r[9]))
                )
            except (ValueError, TypeError, AttributeError) as error:  # one line that nobody can read stops no other
                with self.transaction() as db:
                    db.execute(
                        "UPDATE deliveries SET state='dead', reason=?, done_s=? WHERE seq=?",
                        (f"unreadable: {type(error).__name__}", now, r[0]),
                    )
        return found

    def overtake(self, sink: str, now: float) -> None:
        """An alert that is late, and over before it was told: its all-clear tells of both."""
        over = """SELECT e.event_id FROM deliveries e JOIN messages n USING (event_id) WHERE e.sink = d.sink
                  AND e.group_key = d.group_key AND e.state = 'pending' AND e.seq > d.seq
                  AND json_extract(n.body, '$.status') = 'resolved' ORDER BY e.seq LIMIT 1"""
        late = """d.sink = ? AND d.state = 'pending' AND EXISTS (SELECT 1 FROM messages m WHERE m.event_id = d.event_id
                  AND m.enqueued_s < ? AND json_valid(m.body) AND json_extract(m.body, '$.status') = 'firing')"""
        with self.transaction() as db:
            db.execute(
                f"""UPDATE deliveries AS d SET state = 'merged', done_s = ?, digest = ({over})
                    WHERE {late} AND EXISTS ({over})""",  # noqa: S608 - no value in it
                (now, sink, now - LATE_S),
            )

    def waiting(self, sink: str, now: float) -> int:
        """How many are due for `sink`."""
        return int(
            self._one("SELECT count(*) FROM deliveries WHERE sink=? AND state='pending' AND due_s<=?", sink, now)
        )

    def unconfigured(self, known: Sequence[str], now: float) -> dict[str, list[Delivery]]:
        """What waits for channels that are not among the `known`."""
        with self.transaction() as db:
            sinks = [row[0] for row in db.execute("SELECT DISTINCT sink FROM deliveries WHERE state='pending'")]
        return {sink: self.due(sink, now + LONGEST_WAIT_S, 1000) for sink in sinks if sink not in known}

    def next_due_s(self) -> float | None:
        """When the next delivery or repeat is due; None when there is none. Nothing is before what it waits behind."""
        text = """SELECT min(t) FROM (
                    SELECT min(max(d.due_s, coalesce((SELECT max(e.due_s) FROM deliveries e WHERE e.sink = d.sink
                               AND e.group_key = d.group_key AND e.state = 'pending' AND e.seq < d.seq), 0))) t
                    FROM deliveries d WHERE d.state = 'pending'
                  UNION ALL SELECT min(next_s) FROM repeats)"""
        value = self._one(text)
        return None if value is None else float(value)

    def claim(self, entries: Sequence[Delivery], gate: TokenBucket | None, digest: str = "") -> None:
        """Note, before it happens, that these go out now, and what the gate was charged for it."""
        with self.transaction() as db:
            db.executemany(
                "UPDATE deliveries SET state='sending', attempts=attempts+1, digest=? WHERE seq=?",
                [(digest, entry.seq) for entry in entries],
            )
            if gate is not None:
                _save_gate(db, entries[0].sink, gate)

    def settle(
        self, entries: Sequence[Delivery], state: str, now: float, *, reason: str = "", due_s: float = 0.0,
        doubtful: bool = False, count: str = "", pass_on: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Record what became of claimed entries: their state, a new due time, copies for fallback channels."""
        with self.transaction() as db:
            for entry in entries:
                db.execute(
                    """UPDATE deliveries SET state=?, reason=?, due_s=?, done_s=?, doubtful=doubtful OR ?
                       WHERE seq=?""",
                    (state, reason, due_s, None if state == "pending" else now, doubtful, entry.seq),
                )
                n = entry.notification
                for sink in pass_on:
                    _address(db, n.event_id, sink, n.group_key, entry.rank, now, entry.sink)
            if count:
                _count(db, entries[0].sink, count)

    def note_retry(self, sink: str, gate: TokenBucket | None) -> None:
        """Count a failed attempt, and keep the gate if the failure changed it."""
        with self.transaction() as db:
            _count(db, sink, "retry")
            if gate is not None:
                _save_gate(db, sink, gate)

    def postpone(
        self, sink: str, until_s: float, now: float, *, pass_on: Sequence[str] = (), reason: str = ""
    ) -> None:  # fmt: skip
        """Nothing more for `sink` before `until_s`: `next_due_s` must not name the past. Copies for the fallbacks."""
        late = "sink = :sink AND state = 'pending' AND (due_s <= :now OR due_s > :now + :longest)"
        values = {"sink": sink, "now": now, "longest": LONGEST_WAIT_S, "until": until_s, "reason": reason}
        with self.transaction() as db:
            for other in pass_on:
                db.execute(
                    f"""INSERT OR IGNORE INTO deliveries (event_id, sink, group_key, rank, due_s, instead_of)
                        SELECT event_id, :other, group_key, rank, :now, sink FROM deliveries
                        WHERE {late} ORDER BY seq""",  # noqa: S608 - no value in it
                    {**values, "other": other},
                )
            db.execute(
                f"UPDATE deliveries SET due_s = :until, reason = coalesce(nullif(:reason, ''), reason) WHERE {late}",  # noqa: S608
                values,
            )

    def gate(self, sink: str, limit: Limit, now: float) -> TokenBucket:
        """The stored state of the limit, or a fresh one."""
        text = "SELECT tokens, at_s, closed_until_s, last_digest_s FROM gates WHERE sink=?"
        with self.transaction() as db:
            row = db.execute(text, (sink,)).fetchone()
        if row is None:
            return TokenBucket.fresh(limit, now)
        closed = row[2] if row[2] <= now + LONGEST_WAIT_S else 0.0
        return TokenBucket(
            limit=limit, tokens=row[0], at_s=min(row[1], now), closed_until_s=closed, last_digest_s=row[3]
        )

    def repeat(self, sink: str, notification: Notification, next_s: float, until_s: float | None) -> None:
        """Send `notification` to `sink` again at `next_s` and on, until `until_s` or its alert's next message."""
        with self.transaction() as db:
            row = (sink, notification.group_key, encode(notification), next_s, until_s)
            db.execute("INSERT OR REPLACE INTO repeats VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, sink: str, group_key: str) -> None:
        """No more repeats of an alert to `sink`."""
        with self.transaction() as db:
            db.execute("DELETE FROM repeats WHERE sink=? AND group_key=?", (sink, group_key))

    def repeats_due(self, sink: str, now: float) -> list[tuple[Notification, float | None]]:
        """Repeats that are due for `sink`, the one that waits longest first; expired ones dropped."""
        text = "SELECT body, until_s FROM repeats WHERE sink = ? AND next_s <= ? ORDER BY next_s"
        with self.transaction() as db:
            db.execute("DELETE FROM repeats WHERE until_s < ?", (now,))
            rows = db.execute(text, (sink, now)).fetchall()
        return [(decode(body), until_s) for body, until_s in rows]

    def totals(self) -> dict[tuple[str, str], int]:
        """Attempts by channel and result, since the outbox exists."""
        with self.transaction() as db:
            return {(sink, result): n for sink, result, n in db.execute("SELECT sink, result, count FROM totals")}

    def last_failures(self) -> dict[str, float]:
        """When each channel last refused a message or it was given up; what was revived since does not count."""
        text = "SELECT sink, max(done_s) FROM deliveries WHERE state = 'dead' AND done_s IS NOT NULL GROUP BY sink"
        with self.transaction() as db:
            return {sink: float(at_s) for sink, at_s in db.execute(text)}

    def states(self) -> list[tuple[str, str, int, float, str]]:
        """Channel, state, number, first enqueued and last reason of all that is not delivered."""
        text = """SELECT sink, state, count(*), min(m.enqueued_s), max(d.reason) FROM deliveries d
                  JOIN messages m USING (event_id) WHERE state IN ('pending', 'sending', 'dead')
                  GROUP BY sink, state ORDER BY sink, state"""
        with self.transaction() as db:
            return [tuple(row) for row in db.execute(text)]

    def revive(self, now: float) -> int:
        """Give everything dead another chance; how many there were."""
        with self.transaction() as db:
            text = "UPDATE deliveries SET state='pending', attempts=0, due_s=?, done_s=NULL WHERE state='dead'"
            return db.execute(text, (now,)).rowcount

    def prune(self, now: float) -> None:
        """Once an hour, forget messages with nothing left to do that are older than 30 days."""
        if 0 <= now - self._pruned_s < LONGEST_WAIT_S:
            return
        self._pruned_s = now
        with self.transaction() as db:
            db.execute(
                """DELETE FROM messages WHERE enqueued_s < ? AND NOT EXISTS (SELECT 1 FROM deliveries d
                   WHERE d.event_id = messages.event_id AND d.state IN ('pending', 'sending'))""",
                (now - KEEP_S,),
            )

    def _one(self, text: str, *values: Any) -> Any:
        with self.transaction() as db:
            return db.execute(text, values).fetchone()[0]


def _address(
    db: sqlite3.Connection, event_id: str, sink: str, group_key: str, rank: int, now: float, instead_of: str = ""
) -> None:
    db.execute(
        """INSERT OR IGNORE INTO deliveries (event_id, sink, group_key, rank, due_s, instead_of)
           VALUES (?, ?, ?, ?, ?, ?)""",
        (event_id, sink, group_key, rank, now, instead_of),
    )


def _save_gate(db: sqlite3.Connection, sink: str, gate: TokenBucket) -> None:
    row = (sink, gate.tokens, gate.at_s, gate.closed_until_s, gate.last_digest_s)
    db.execute("INSERT OR REPLACE INTO gates VALUES (?, ?, ?, ?, ?)", row)


def _count(db: sqlite3.Connection, sink: str, result: str) -> None:
    db.execute("INSERT INTO totals VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count=count+1", (sink, result))
