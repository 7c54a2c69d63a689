-- Dead letters: tasks that cannot go on until a person has looked at them; and the times at which tasks whose
-- templates limit their life are looked at. Only adds; programs of the version before run on it.

-- An entry belongs to a task; a task may have many over time, at most one of them pending. Everything that is
-- needed to understand it is copied into it (`snapshot`), so that it outlives the task's own rows. `reason` and
-- `resolution` are numbers of tasker_shared::plan::dead_letter; 0 is a resolution that is pending.
CREATE TABLE tasker.dead_letters (
    entry          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    task_uuid      uuid NOT NULL,
    template_id    int NOT NULL,
    namespace      text NOT NULL,
    name           text NOT NULL,
    reason         smallint NOT NULL,
    original_state smallint NOT NULL,
    resolution     smallint NOT NULL DEFAULT 0,
    buried_at      timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    resolved_at    timestamptz,
    resolved_by    text,
    notes          text,
    metadata       json,
    snapshot       json NOT NULL
);
CREATE UNIQUE INDEX dead_letters_pending ON tasker.dead_letters (task_uuid) WHERE resolution = 0;
-- What is pending of a namespace, the oldest first; and how many there are.
CREATE INDEX dead_letters_open ON tasker.dead_letters (namespace, buried_at) WHERE resolution = 0;
CREATE INDEX dead_letters_task ON tasker.dead_letters (task_uuid, buried_at);
CREATE INDEX dead_letters_listed ON tasker.dead_letters (buried_at, entry);
-- The oldest of each reason that are pending; and what the statistics read, without the snapshots.
CREATE INDEX dead_letters_counted ON tasker.dead_letters (reason, resolution, buried_at) INCLUDE (resolved_at);

-- One row for a task whose template limits its life: when it is looked at next, and since when it runs (a retry
-- begins anew). It goes when the task is looked at after its end.
CREATE TABLE tasker.deadlines (
    task_uuid   uuid PRIMARY KEY,
    shard       smallint NOT NULL,
    due_at      timestamptz NOT NULL,
    since       timestamptz NOT NULL,
    template_id int NOT NULL
);
CREATE INDEX deadlines_due ON tasker.deadlines (shard, due_at);
