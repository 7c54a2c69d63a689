-- What retention needs: which database an archive is of, the keys of a week's tasks without reading all keys, and
-- partitions that are made anew or put back where only a table of their name is there. Programs of the version
-- before run on it.

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
