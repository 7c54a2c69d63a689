//! API keys: their hashes, and what they permit. The keys themselves are stored nowhere.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::pool::Pool;
use super::{Result, statements};

/// A key that is to be stored.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub key_id: Uuid,
    pub name: String,
    /// The SHA-256 of the key.
    pub hash: Vec<u8>,
    pub hint: String,
    pub permissions: Vec<String>,
    /// Every namespace where empty.
    pub namespaces: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key that was not revoked, as callers are held against it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct ApiKeyRow {
    pub name: String,
    pub hash: Vec<u8>,
    pub permissions: Vec<String>,
    pub namespaces: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key as people see it.
#[derive(Debug, Clone, serde::Serialize, sqlx::FromRow)]
pub struct ListedApiKey {
    pub key_id: Uuid,
    pub name: String,
    /// Its beginning.
    pub hint: String,
    pub permissions: Vec<String>,
    /// Every namespace where empty.
    pub namespaces: Vec<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

statements! {
    INSERT, "insert_api_key" =
        "INSERT INTO tasker.api_keys (key_id, name, hash, hint, permissions, namespaces, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
    LIST_USABLE, "list_usable_api_keys" =
        "SELECT name, hash, permissions, namespaces, expires_at FROM tasker.api_keys WHERE revoked_at IS NULL";
    LIST, "list_api_keys" =
        "SELECT key_id, name, hint, permissions, namespaces, created_at, expires_at, revoked_at
           FROM tasker.api_keys ORDER BY created_at, key_id";
    REVOKE, "revoke_api_key" =
        // by its id, or by the name that no two keys in force share
        "UPDATE tasker.api_keys SET revoked_at = now() WHERE revoked_at IS NULL AND (name = $1 OR key_id::text = $1)";
}

/// Stores a key; `false` where a key in force has its name already.
pub async fn insert(pool: &Pool, key: &NewApiKey) -> Result<bool> {
    let query = sqlx::query(INSERT.sql)
        .bind(key.key_id)
        .bind(&key.name)
        .bind(&key.hash)
        .bind(&key.hint)
        .bind(&key.permissions)
        .bind(&key.namespaces)
        .bind(key.expires_at);
    let done = INSERT.run(query.execute(pool)).await?;
    Ok(done.rows_affected() == 1)
}

/// Every key that was not revoked, also those that have expired.
pub async fn list_usable(pool: &Pool) -> Result<Vec<ApiKeyRow>> {
    LIST_USABLE
        .run(sqlx::query_as(LIST_USABLE.sql).fetch_all(pool))
        .await
}

/// Every key there ever was, the oldest first.
pub async fn list(pool: &Pool) -> Result<Vec<ListedApiKey>> {
    LIST.run(sqlx::query_as(LIST.sql).fetch_all(pool)).await
}

/// Revokes the key in force of that name or id; `false` where there is none.
pub async fn revoke(pool: &Pool, name_or_id: &str) -> Result<bool> {
    let query = sqlx::query(REVOKE.sql).bind(name_or_id);
    let done = REVOKE.run(query.execute(pool)).await?;
    Ok(done.rows_affected() > 0)
}
