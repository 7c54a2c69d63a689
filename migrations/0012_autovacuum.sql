-- While some session holds an old snapshot, autovacuum reads the queues and the week's tables once a minute and can remove
-- nothing. A server holds it off then. Programs of the version before run on it.

-- Holds autovacuum off a table of this schema, or lets it in again; returns whether that is done. It is left to the next
-- look where somebody works on the table, autovacuum above all: it would be cancelled to make room for a wait of a second.
-- Analysing goes on, and so does what autovacuum does against the wraparound of ids.
CREATE FUNCTION tasker.hold_autovacuum(part text, hold boolean) RETURNS boolean
    LANGUAGE plpgsql
    SET lock_timeout = '100ms'
    AS $$
BEGIN
    IF hold THEN
        EXECUTE format('ALTER TABLE tasker.%I SET (autovacuum_vacuum_threshold = 2000000000, autovacuum_vacuum_insert_threshold = -1)', part);
    ELSE
        EXECUTE format('ALTER TABLE tasker.%I RESET (autovacuum_vacuum_threshold, autovacuum_vacuum_insert_threshold)', part);
    END IF;
    RETURN true;
EXCEPTION
    -- the second: retention has dropped it meanwhile
    WHEN lock_not_available OR undefined_table THEN
        RETURN false;
END $$;
