-- What retention needs: which database an archive is of, the keys of a week's tasks without reading all keys, and
-- partitions that are made anew or put back where only a table of their name is there. And what lists of a long
-- history need that ask for something rare. Making the indexes reads all tasks, while none can be stored. Programs
-- of the version before run on it.

-- Rather fail and be tried again than let everybody wait behind somebody's long transaction.
SET LOCAL lock_timeout = '5s';

INSERT INTO tasker.settings (name, value) VALUES ('archive.identity', floor(random() * 4294967296)::bigint);

CREATE INDEX idempotency_keys_task ON tasker.idempotency_keys (task_uuid);

-- Makes the weekly partitions from the week before `at` to `weeks` weeks after it, where they are missing.
-- A partition is made apart and attached, which does not stop writers of its neighbours. One that is there and is
-- in no table is attached as it is: whoever took it out had a clock that was wrong, or was putting it back.
CREATE OR REPLACE FUNCTION tasker.ensure_partitions(at timestamptz, weeks int) RETURNS int
    LANGUAGE plpgsql
    AS $$
DECLARE
    week  timestamp;
    suffix text;
    parent text;
    part  text;
    made  int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('tasker.ensure_partitions'));
    FOR i IN -1..weeks LOOP
        week := date_trunc('week', at AT TIME ZONE 'UTC') + i * interval '7 days';
        suffix := to_char(week, '"_"YYYYMMDD');
        FOREACH parent IN ARRAY ARRAY['tasks', 'steps', 'attempts'] LOOP
            part := parent || suffix;
            CONTINUE WHEN EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass('tasker.' || part));
            IF to_regclass('tasker.' || part) IS NULL THEN
                EXECUTE format('CREATE TABLE tasker.%I (LIKE tasker.%I INCLUDING DEFAULTS)', part, parent);
                IF parent <> 'attempts' THEN
                    EXECUTE format('ALTER TABLE tasker.%I SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1)', part);
                END IF;
            END IF;
            EXECUTE format('ALTER TABLE tasker.%I ATTACH PARTITION tasker.%I FOR VALUES FROM (%L) TO (%L)', parent, part,
                tasker.lowest_uuid_at(week AT TIME ZONE 'UTC'),
                tasker.lowest_uuid_at((week + interval '7 days') AT TIME ZONE 'UTC'));
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- Columns that never change, so that a task's end stays a HOT update; tasks without a value pay nothing.
CREATE INDEX tasks_initiator ON tasker.tasks (initiator, task_uuid) WHERE initiator IS NOT NULL;
CREATE INDEX tasks_tags ON tasker.tasks USING gin (tags) WHERE tags <> '{}';

-- Gives the newest week that is over and has none an index of its tasks that did not complete; returns the
-- partition's name, null where all have theirs. A state changes, so an index of it would cost every task's end: a
-- week that is over has few of those left. A day later, because tasks of its last hours still end.
CREATE FUNCTION tasker.index_closed_week(at timestamptz) RETURNS text
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
        EXECUTE format('CREATE INDEX %I ON tasker.%I (state, task_uuid) WHERE state <> 8', part || '_state', part);
    END IF;
    RETURN part;
END $$;
