//! `tasker key`: API keys, in the database itself, so that the first one needs no other.

use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;
use tasker_shared::access::{ApiKey, Permissions};
use tasker_shared::db::api_keys::{self, ListedApiKey, NewApiKey};
use tasker_shared::db::pool::Pool;
use uuid::Uuid;

use super::{print, print_line};
use crate::failure::Failure;
use crate::output::table::Rows;
use crate::output::time;
use crate::{parse, process};

/// What PostgreSQL calls a table that is not there.
const NO_SUCH_TABLE: &str = "42P01";
const LONGEST_NAME: usize = 255;

#[derive(Debug, Args)]
#[command(after_help = "The database is DATABASE_URL, or `database.url` of the configuration.")]
pub(crate) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and print it: it is shown this once and stored nowhere
    Create(Create),
    /// List the keys, those that were revoked too
    List(List),
    /// Make a key worthless; servers and workers know within seconds
    Revoke(Revoke),
}

#[derive(Debug, Args)]
struct Create {
    /// Who is to have it; no two keys in force share a name
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    /// What it permits, such as tasks:create, or dlq:* for all of a resource
    #[arg(long = "permission", value_name = "P", num_args = 1.., required = true, value_parser = permission)]
    permissions: Vec<String>,
    /// Limit it to these namespaces [default: every one]
    #[arg(long = "namespace", value_name = "NS", num_args = 1..)]
    namespaces: Vec<String>,
    /// Let it expire after this long [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    expires: Option<Duration>,
    /// Print a JSON document with the key and what it permits
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct List {
    /// Print a JSON list
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Revoke {
    /// The key's name, or its id
    #[arg(value_name = "NAME|ID")]
    key: String,
}

fn name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty".to_owned()),
        text if text.chars().count() > LONGEST_NAME => {
            Err("is longer than 255 characters".to_owned())
        }
        text if text.chars().any(char::is_control) => Err("has control characters".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn permission(text: &str) -> Result<String, String> {
    match Permissions::read(&[text]).1.pop() {
        Some(unknown) => Err(unknown.to_string()),
        None => Ok(text.to_owned()),
    }
}

impl Key {
    pub(crate) fn wants_json(&self) -> bool {
        match &self.command {
            Command::Create(create) => create.json,
            Command::List(list) => list.json,
            Command::Revoke(_) => false,
        }
    }

    pub(crate) async fn run(self) -> Result<(), Failure> {
        let loaded = process::configuration(&[])?;
        let pool = process::migration_target(&loaded.config)?.pool(1);
        match self.command {
            Command::Create(create) => create.run(&pool).await,
            Command::List(list) => list.run(&pool).await,
            Command::Revoke(revoke) => revoke.run(&pool).await,
        }
    }
}

impl Create {
    async fn run(self, pool: &Pool) -> Result<(), Failure> {
        let key = ApiKey::random();
        let new = NewApiKey {
            key_id: Uuid::now_v7(),
            name: self.name,
            hash: key.hash().0.to_vec(),
            hint: key.hint().to_owned(),
            permissions: self.permissions,
            namespaces: self.namespaces,
            expires_at: self.expires.map(parse::moment_in).transpose()?,
        };
        if !api_keys::insert(pool, &new).await.map_err(unusable)? {
            return Err(Failure::Verdict(format!(
                "a key in force has the name {:?}: give this one another, or `tasker key revoke` that one first",
                new.name
            )));
        }
        if !self.json {
            // Alone on its line: what a script takes.
            return print_line(key.expose());
        }
        print_json(&json!({
            "key_id": new.key_id, "name": new.name, "key": key.expose(), "hint": new.hint,
            "permissions": new.permissions, "namespaces": new.namespaces, "expires_at": new.expires_at,
        }))
    }
}

impl List {
    async fn run(self, pool: &Pool) -> Result<(), Failure> {
        let keys = api_keys::list(pool).await.map_err(unusable)?;
        if self.json {
            return print_json(&keys);
        }
        if keys.is_empty() {
            return print_line("no keys; make one with `tasker key create`");
        }
        let mut rows = Rows::under(&[
            "NAME",
            "KEY",
            "STATE",
            "NAMESPACES",
            "PERMISSIONS",
            "CREATED",
        ]);
        for key in keys {
            rows.add(vec![
                key.name.clone(),
                format!("{}…", key.hint),
                state(&key, Utc::now()),
                listed(&key.namespaces, "every one"),
                listed(&key.permissions, "none"),
                time::full(key.created_at),
            ]);
        }
        print(&rows.text())
    }
}

impl Revoke {
    async fn run(self, pool: &Pool) -> Result<(), Failure> {
        match api_keys::revoke(pool, &self.key).await.map_err(unusable)? {
            true => print_line(&format!("revoked {}", self.key)),
            false => Err(Failure::Verdict(format!(
                "no key in force has the name or id {:?}; see `tasker key list`",
                self.key
            ))),
        }
    }
}

fn state(key: &ListedApiKey, now: DateTime<Utc>) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(_), _) => "revoked".to_owned(),
        (None, Some(at)) if at <= now => "expired".to_owned(),
        (None, Some(at)) => format!("until {}", time::full(at)),
        (None, None) => "in force".to_owned(),
    }
}

fn listed(texts: &[String], none: &str) -> String {
    match texts {
        [] => none.to_owned(),
        texts => texts.join(" "),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| Failure::setup("cannot write the answer", source))?;
    print_line(&text)
}

fn unusable(error: tasker_shared::db::Error) -> Failure {
    let doing = match error.sqlstate().as_deref() {
        Some(NO_SUCH_TABLE) => {
            "the database has no keys yet: apply its migrations with `tasker migrate`"
        }
        _ => "the database cannot be used",
    };
    Failure::setup(doing, error)
}
