-- What telemetry needs: which tasks are traced, whom their callers trace them for, and how many tasks are in
-- each state without counting them. Only adds; programs of the version before run on it.

-- Changes of the number of tasks in each state that is stored and not final: a few rows a statement, which a
-- server folds together every few seconds. The number is the sum.
CREATE TABLE tasker.task_counts (
    state  smallint NOT NULL,
    change int NOT NULL
);
-- This reads all tasks, so it comes before what locks them.
INSERT INTO tasker.task_counts (state, change)
SELECT state, count(*) FROM tasker.tasks WHERE state < 8 GROUP BY state;

-- Rather fail and be tried again than let everybody wait behind somebody's long transaction.
SET LOCAL lock_timeout = '5s';

-- `traced`: the task's spans are exported. `traceparent` and `tracestate` came with the request (W3C Trace
-- Context).
ALTER TABLE tasker.tasks
    ADD COLUMN traced boolean NOT NULL DEFAULT false,
    ADD COLUMN traceparent text,
    ADD COLUMN tracestate text;
ALTER TABLE tasker.ready ADD COLUMN traced boolean NOT NULL DEFAULT false;
ALTER TABLE tasker.results ADD COLUMN traced boolean NOT NULL DEFAULT false;
ALTER TABLE tasker.delayed ADD COLUMN traced boolean NOT NULL DEFAULT false;
