-- The engine's tables. What each is for stands above it; all SQL that touches them is in tasker-shared/src/db.
-- The schema `tasker` is there already: it holds the account of the migrations.
-- Hot tables have no foreign keys and no triggers, and no index on a column that a claim or a result changes.

-- What servers were told that SQL functions must know too: limits.* by name.
CREATE TABLE tasker.settings (
    name  text PRIMARY KEY,
    value bigint NOT NULL
);

-- Templates never change once stored. `definition` is the parsed template, `source` the text it came from.
CREATE TABLE tasker.templates (
    template_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace   text NOT NULL,
    name        text NOT NULL,
    version     text NOT NULL,
    definition  json NOT NULL,
    source      text NOT NULL,
    step_count  int NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace, name, version)
);

-- The part of a template's graph that statements join on: how many parents a step waits for and which.
-- The last row of a template is the nameless join behind all leaves.
CREATE TABLE tasker.template_steps (
    template_id int NOT NULL REFERENCES tasker.templates,
    step_no     int NOT NULL,
    waiting_on  int NOT NULL,
    parents     int[] NOT NULL,
    PRIMARY KEY (template_id, step_no)
);

-- A task's row is written when it is accepted and when it ends; progress is in its steps.
CREATE TABLE tasker.tasks (
    task_uuid             uuid NOT NULL,
    template_id           int NOT NULL,
    state                 smallint NOT NULL,
    priority              smallint NOT NULL,
    sampled               boolean NOT NULL,
    context               json NOT NULL,
    correlation_id        uuid NOT NULL,
    parent_correlation_id uuid,
    initiator             text,
    source_system         text,
    reason                text,
    tags                  text[] NOT NULL,
    idempotency_key       text,
    options               json,
    run_at                timestamptz,
    created_at            timestamptz NOT NULL,
    updated_at            timestamptz NOT NULL,
    completed_at          timestamptz,
    failure               json,
    PRIMARY KEY (task_uuid)
) PARTITION BY RANGE (task_uuid);
CREATE INDEX tasks_template ON tasker.tasks (template_id, task_uuid);
CREATE INDEX tasks_correlation ON tasker.tasks (correlation_id);

-- A step by its task and its number. `attempt` counts deliveries and fences results; `tries` counts the
-- handler's attempts; `lost` the leases that ran out. `waiting_on` parents have not ended, `failed` ended
-- badly. `lane` and `message_id` lead to its message in `ready` while it is enqueued.
CREATE TABLE tasker.steps (
    task_uuid  uuid NOT NULL,
    step_no    int NOT NULL,
    state      smallint NOT NULL,
    waiting_on int NOT NULL,
    failed     int NOT NULL,
    attempt    int NOT NULL,
    tries      int NOT NULL,
    lost       int NOT NULL,
    lane       int,
    message_id bigint,
    changed_at timestamptz NOT NULL,
    due_at     timestamptz,
    PRIMARY KEY (task_uuid, step_no)
) PARTITION BY RANGE (task_uuid);

-- One row an attempt, written once, with its result or error.
CREATE TABLE tasker.attempts (
    task_uuid   uuid NOT NULL,
    step_no     int NOT NULL,
    attempt     int NOT NULL,
    outcome     smallint NOT NULL,
    worker      uuid,
    enqueued_at timestamptz,
    claimed_at  timestamptz,
    started_at  timestamptz,
    finished_at timestamptz NOT NULL,
    result      json,
    error       json,
    PRIMARY KEY (task_uuid, step_no, attempt)
) PARTITION BY RANGE (task_uuid);

-- A lane is what a worker claims from: work of one namespace, handler, priority and target.
CREATE TABLE tasker.lanes (
    lane      int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    callable  text NOT NULL,
    priority  smallint NOT NULL,
    target    text NOT NULL,
    UNIQUE (namespace, callable, priority, target)
);

CREATE SEQUENCE tasker.message_ids;

-- What may be claimed now, and what is claimed until its result is in. A claim changes `worker` and
-- `claimed_at` only, which no index holds, so that it is a HOT update.
CREATE TABLE tasker.ready (
    lane           int NOT NULL,
    id             bigint NOT NULL,
    task_uuid      uuid NOT NULL,
    correlation_id uuid NOT NULL,
    worker         uuid,
    enqueued_at    timestamptz NOT NULL,
    claimed_at     timestamptz,
    step_no        int NOT NULL,
    attempt        int NOT NULL,
    tries          int NOT NULL,
    lost           int NOT NULL,
    template_id    int NOT NULL,
    shard          smallint NOT NULL,
    priority       smallint NOT NULL,
    sampled        boolean NOT NULL,
    PRIMARY KEY (lane, id)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- The way back to the server that owns the task's shard: results of attempts, and everything else that
-- changes a graph. `kind` is an attempt's outcome (0 to 8) or one of the kinds of tasker_shared::plan.
CREATE TABLE tasker.results (
    shard          smallint NOT NULL,
    id             bigint NOT NULL DEFAULT nextval('tasker.message_ids'),
    kind           smallint NOT NULL,
    task_uuid      uuid NOT NULL,
    correlation_id uuid NOT NULL,
    control        uuid,
    sent_at        timestamptz NOT NULL,
    step_no        int NOT NULL,
    attempt        int NOT NULL,
    tries          int NOT NULL,
    lost           int NOT NULL,
    template_id    int NOT NULL,
    progress       int NOT NULL DEFAULT 0,
    retry_after_ms bigint,
    priority       smallint NOT NULL,
    sampled        boolean NOT NULL,
    PRIMARY KEY (shard, id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);

-- What is due at a time: retries, and tasks with `run_at` (their step 0). Moved to `results` when due.
CREATE TABLE tasker.delayed (
    shard          smallint NOT NULL,
    due_at         timestamptz NOT NULL,
    id             bigint NOT NULL DEFAULT nextval('tasker.message_ids'),
    task_uuid      uuid NOT NULL,
    correlation_id uuid NOT NULL,
    step_no        int NOT NULL,
    attempt        int NOT NULL,
    tries          int NOT NULL,
    lost           int NOT NULL,
    template_id    int NOT NULL,
    priority       smallint NOT NULL,
    sampled        boolean NOT NULL,
    PRIMARY KEY (shard, due_at, id)
);

-- One row a process start; the row is the lease of all that the worker runs.
CREATE TABLE tasker.workers (
    worker      uuid PRIMARY KEY,
    name        text NOT NULL,
    version     text NOT NULL,
    namespaces  text[] NOT NULL,
    callables   text[] NOT NULL,
    slots       int NOT NULL,
    busy        int NOT NULL,
    started_at  timestamptz NOT NULL,
    seen_at     timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    stopped_at  timestamptz
) WITH (fillfactor = 50);

CREATE TABLE tasker.servers (
    server     uuid PRIMARY KEY,
    name       text NOT NULL,
    version    text NOT NULL,
    started_at timestamptz NOT NULL,
    until      timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Which server works which part of the tasks.
CREATE TABLE tasker.shards (
    shard smallint PRIMARY KEY,
    owner uuid,
    epoch bigint NOT NULL DEFAULT 0,
    until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
INSERT INTO tasker.shards (shard) SELECT generate_series(0, 15);

-- Submissions made inside a user's own transaction, until a server has made their tasks.
CREATE TABLE tasker.requests (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_uuid      uuid NOT NULL,
    namespace      text NOT NULL,
    name           text NOT NULL,
    version        text,
    context        json NOT NULL,
    priority       smallint NOT NULL,
    correlation_id uuid NOT NULL,
    parent_correlation_id uuid,
    idempotency_key text,
    initiator      text,
    source_system  text,
    reason         text,
    tags           text[] NOT NULL,
    run_at         timestamptz,
    requested_at   timestamptz NOT NULL
);

CREATE TABLE tasker.idempotency_keys (
    namespace  text NOT NULL,
    name       text NOT NULL,
    key        text NOT NULL,
    task_uuid  uuid NOT NULL,
    digest     bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (namespace, name, key)
);

-- What a person asked of a task (cancel, retry, a step's manual end), and what the shard's owner answered.
CREATE TABLE tasker.controls (
    control      uuid PRIMARY KEY,
    task_uuid    uuid NOT NULL,
    action       json NOT NULL,
    requested_at timestamptz NOT NULL,
    applied_at   timestamptz,
    answer       json
);

-- The shard of a task, as tasker_shared::ids::shard_of.
CREATE FUNCTION tasker.shard_of(task_uuid uuid) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT (get_byte(uuid_send(task_uuid), 13) >> 4)::smallint $$;

-- The lowest uuid of a task accepted at `at`.
CREATE FUNCTION tasker.lowest_uuid_at(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid $$;

-- A new task's uuid, as tasker_shared::ids::new_task_uuid.
CREATE FUNCTION tasker.new_task_uuid() RETURNS uuid
    LANGUAGE sql VOLATILE
    AS $$
        SELECT (lpad(to_hex(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
                || '7' || substr(r, 14, 3) || substr(r, 17, 11) || '00000')::uuid
          FROM (SELECT replace(gen_random_uuid()::text, '-', '') AS r) AS random
    $$;

-- Makes the weekly partitions from the week before `at` to `weeks` weeks after it, where they are missing.
-- A partition is made apart and attached, which does not stop writers of its neighbours.
CREATE FUNCTION tasker.ensure_partitions(at timestamptz, weeks int) RETURNS int
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
            CONTINUE WHEN to_regclass('tasker.' || part) IS NOT NULL;
            EXECUTE format('CREATE TABLE tasker.%I (LIKE tasker.%I INCLUDING DEFAULTS)', part, parent);
            IF parent <> 'attempts' THEN
                EXECUTE format('ALTER TABLE tasker.%I SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.1)', part);
            END IF;
            EXECUTE format('ALTER TABLE tasker.%I ATTACH PARTITION tasker.%I FOR VALUES FROM (%L) TO (%L)', parent, part,
                tasker.lowest_uuid_at(week AT TIME ZONE 'UTC'),
                tasker.lowest_uuid_at((week + interval '7 days') AT TIME ZONE 'UTC'));
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

SELECT tasker.ensure_partitions(now(), 4);

-- Requests a task inside the caller's own transaction: it exists exactly if that transaction commits.
-- Returns the task's uuid; with an idempotency key that was seen before, the first task's. Raises on an
-- unknown template, a context over limits.max_context_bytes, a priority outside -100..100, and on a key
-- that was used for a different request. The server checks the context against the template's schema.
CREATE FUNCTION tasker.submit_task(
    namespace text, name text, context json,
    version text DEFAULT NULL, idempotency_key text DEFAULT NULL, priority int DEFAULT 0,
    run_at timestamptz DEFAULT NULL, correlation_id uuid DEFAULT NULL, parent_correlation_id uuid DEFAULT NULL,
    tags text[] DEFAULT '{}', initiator text DEFAULT NULL, source_system text DEFAULT NULL, reason text DEFAULT NULL
) RETURNS uuid
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    uuid_of_task uuid := tasker.new_task_uuid();
    size_limit bigint := coalesce((SELECT s.value FROM tasker.settings AS s WHERE s.name = 'limits.max_context_bytes'), 1048576);
    request_digest bytea;
    first record;
BEGIN
    IF submit_task.context IS NULL THEN
        RAISE EXCEPTION 'context is null: give an object, {} where there is nothing to say' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF octet_length(submit_task.context::text) > size_limit THEN
        RAISE EXCEPTION 'context has % bytes, limits.max_context_bytes allows %', octet_length(submit_task.context::text), size_limit
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    IF submit_task.priority NOT BETWEEN -100 AND 100 THEN
        RAISE EXCEPTION 'priority % is outside -100..100', submit_task.priority USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT EXISTS (SELECT 1 FROM tasker.templates AS t
                    WHERE t.namespace = submit_task.namespace AND t.name = submit_task.name
                      AND (submit_task.version IS NULL OR t.version = submit_task.version)) THEN
        RAISE EXCEPTION 'no template %/%/%: apply it first', submit_task.namespace, submit_task.name,
            coalesce(submit_task.version, '(any version)') USING ERRCODE = 'no_data_found';
    END IF;
    IF submit_task.idempotency_key IS NOT NULL THEN
        request_digest := sha256(convert_to(concat_ws(E'\x1f', coalesce(submit_task.version, ''), submit_task.context::text,
            submit_task.priority::text, coalesce(floor(extract(epoch FROM submit_task.run_at) * 1000)::bigint::text, ''),
            array_to_string(submit_task.tags, E'\x1e'), coalesce(submit_task.initiator, ''),
            coalesce(submit_task.source_system, ''), coalesce(submit_task.reason, ''), ''), 'UTF8'));
        INSERT INTO tasker.idempotency_keys (namespace, name, key, task_uuid, digest, created_at)
        VALUES (submit_task.namespace, submit_task.name, submit_task.idempotency_key, uuid_of_task, request_digest, now())
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT k.task_uuid, k.digest INTO first FROM tasker.idempotency_keys AS k
             WHERE k.namespace = submit_task.namespace AND k.name = submit_task.name AND k.key = submit_task.idempotency_key;
            IF first.digest <> request_digest THEN
                RAISE EXCEPTION 'idempotency key % was used for a different request', submit_task.idempotency_key
                    USING ERRCODE = 'unique_violation';
            END IF;
            RETURN first.task_uuid;
        END IF;
    END IF;
    INSERT INTO tasker.requests (task_uuid, namespace, name, version, context, priority, correlation_id,
        parent_correlation_id, idempotency_key, initiator, source_system, reason, tags, run_at, requested_at)
    VALUES (uuid_of_task, submit_task.namespace, submit_task.name, submit_task.version, submit_task.context, submit_task.priority,
        coalesce(submit_task.correlation_id, gen_random_uuid()), submit_task.parent_correlation_id, submit_task.idempotency_key,
        submit_task.initiator, submit_task.source_system, submit_task.reason, submit_task.tags, submit_task.run_at, clock_timestamp());
    PERFORM pg_notify('tasker_requests', '');
    RETURN uuid_of_task;
END $$;
