-- What lists of tasks need that ended otherwise than well, in the weeks that are not over, too. Marking those that are
-- there and making the index reads all tasks, while none can be stored. Programs of the version before run on it; what
-- ends by them meanwhile is marked once its week is over.

-- Rather fail and be tried again than let everybody wait behind somebody's long transaction.
SET LOCAL lock_timeout = '5s';

-- `unwell`: the task has been blocked by failures, in error, cancelled or resolved by hand, once at least. A column
-- apart from the state, because an index that so much as names the state would cost every task's end its HOT update.
ALTER TABLE tasker.tasks ADD COLUMN unwell boolean NOT NULL DEFAULT false;
UPDATE tasker.tasks SET unwell = true WHERE state IN (7, 9, 10, 11);
CREATE INDEX tasks_unwell ON tasker.tasks (task_uuid) WHERE unwell;

-- As before, and marks what is not marked.
CREATE OR REPLACE FUNCTION tasker.index_closed_week(at timestamptz) RETURNS text
    LANGUAGE plpgsql
    SET lock_timeout = '1s'
    AS $$
DECLARE
    part text;
BEGIN
    SELECT c.relname INTO part
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'tasker.tasks'::regclass AND NOT i.inhdetachpending
       AND c.relname < 'tasks_' || to_char(date_trunc('week', (at AT TIME ZONE 'UTC') - interval '1 day'), 'YYYYMMDD')
       AND to_regclass('tasker.' || c.relname || '_state') IS NULL
     ORDER BY c.relname DESC LIMIT 1;
    IF part IS NOT NULL THEN
        EXECUTE format('UPDATE tasker.%I SET unwell = true WHERE state IN (7, 9, 10, 11) AND NOT unwell', part);
        EXECUTE format('CREATE INDEX %I ON tasker.%I (state, task_uuid) WHERE state <> 8', part || '_state', part);
    END IF;
    RETURN part;
END $$;
