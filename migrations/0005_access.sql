-- Who may use the API. Only adds; programs of the version before run on it.

-- A key is stored as the SHA-256 of its 256 random bits and nothing else; `hint` is its beginning, for people.
-- Empty `namespaces` means every namespace. Revoked keys are kept, so that a list tells of them.
CREATE TABLE tasker.api_keys (
    key_id      uuid PRIMARY KEY,
    name        text NOT NULL,
    hash        bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    hint        text NOT NULL,
    permissions text[] NOT NULL,
    namespaces  text[] NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);

-- A name can be given again when its key was revoked.
CREATE UNIQUE INDEX api_keys_name ON tasker.api_keys (name) WHERE revoked_at IS NULL;
