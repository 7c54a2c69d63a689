-- What outside things are in trouble: a row while the circuit of a target is not closed, so that a healthy
-- target costs nothing. Lanes of the target are parked; after `retry_at` one worker at a time may send one
-- step as a probe, under a lease (`probe`, `probe_until`) that `probe_no` fences.
CREATE TABLE tasker.circuits (
    target      text PRIMARY KEY,
    reason      text NOT NULL,
    opened_at   timestamptz NOT NULL,
    retry_at    timestamptz NOT NULL,
    failures    int NOT NULL DEFAULT 0,
    successes   int NOT NULL DEFAULT 0,
    probe_no    bigint NOT NULL DEFAULT 0,
    probe       uuid,
    probe_until timestamptz
);
CREATE INDEX lanes_target ON tasker.lanes (target) WHERE target <> '';
