//! Who calls, and what they may do: credentials are turned into a `Caller`, a `Need` is held against it, and what
//! is refused says why. The routes' tables are beside the routes, in the server and in the worker; the keys are stored
//! by `db::api_keys`.

mod api_key;
mod caller;
mod credentials;
mod exposure;
mod gate;
mod jwks;
mod keys;
mod permission;
mod refusal;
mod routes;
mod signature;
mod token;

pub use api_key::{ApiKey, KeyHash};
pub use caller::Caller;
pub use exposure::{Exposed, check_exposure};
pub use gate::{Gate, SetupError};
pub use permission::{Permission, Permissions, UnknownPermission};
pub use refusal::{REASON_HEADER, Refusal, SEVERITY_HEADER};
pub use routes::{Need, Route, Wanted, allowed, wanted};
pub(crate) use token::ALGORITHMS;

#[cfg(test)]
mod tests;
