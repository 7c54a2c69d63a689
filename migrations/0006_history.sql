-- What history says of itself: statistics that outlive the tasks they were made of, so that nothing has to scan
-- history to answer how fast steps are. Only adds; programs of the version before run on it.

-- How the attempts of a step went that ended in a period: five minutes, or an hour once it is two days old.
-- Processes add what they have seen every second or so; the row of a period is changed by its key alone.
CREATE TABLE tasker.step_stats (
    period      timestamptz NOT NULL,
    template_id int NOT NULL,
    step_no     int NOT NULL,
    executions  bigint NOT NULL,
    errors      bigint NOT NULL,
    total_ms    double precision NOT NULL,
    max_ms      double precision NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (period, template_id, step_no)
) WITH (fillfactor = 50);

-- The same of tasks, by how they ended; their times are from acceptance to end, of those that completed or failed.
CREATE TABLE tasker.task_stats (
    period      timestamptz NOT NULL,
    template_id int NOT NULL,
    completed   bigint NOT NULL,
    failed      bigint NOT NULL,
    cancelled   bigint NOT NULL,
    resolved    bigint NOT NULL,
    total_ms    double precision NOT NULL,
    max_ms      double precision NOT NULL,
    last_at     timestamptz NOT NULL,
    PRIMARY KEY (period, template_id)
) WITH (fillfactor = 50);
