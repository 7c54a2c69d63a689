//! What the description says of credentials: the two kinds, and of every route which permission it needs where
//! authentication is on.

use axum::http::Method;
use tasker_shared::access::Need;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};

use super::super::access::ROUTES;

const TOKEN: &str = "token";
const KEY: &str = "api_key";

/// The description with credentials. None is one way too: where authentication is off.
pub(super) fn described(mut api: OpenApi) -> OpenApi {
    let components = api.components.get_or_insert_default();
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
    components.add_security_scheme(KEY, key);
    let token = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(TOKEN, token);
    for (method, pattern, need) in ROUTES {
        let item = api.paths.paths.get_mut(*pattern);
        let operation = item.and_then(|item| of_method(item, method));
        if let (Some(operation), Need::Permission(permission)) = (operation, need) {
            operation.security = Some(vec![
                SecurityRequirement::new(TOKEN, [permission.as_str()]),
                SecurityRequirement::new(KEY, [permission.as_str()]),
                SecurityRequirement::default(),
            ]);
        }
    }
    api
}

fn of_method<'i>(item: &'i mut PathItem, method: &Method) -> Option<&'i mut Operation> {
    match method.as_str() {
        "GET" => item.get.as_mut(),
        "PUT" => item.put.as_mut(),
        "POST" => item.post.as_mut(),
        "PATCH" => item.patch.as_mut(),
        "DELETE" => item.delete.as_mut(),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::super::super::description;

    #[test]
    fn every_route_says_which_permission_it_needs() {
        let api = serde_json::to_value(description()).unwrap();
        let schemes = &api["components"]["securitySchemes"];
        assert_eq!(schemes["api_key"]["name"], "X-API-Key");
        assert_eq!(schemes["token"]["scheme"], "bearer");
        let create = &api["paths"]["/v1/tasks"]["post"]["security"];
        let expected = json!([{"token": ["tasks:create"]}, {"api_key": ["tasks:create"]}, {}]);
        assert_eq!(*create, expected);
        assert_eq!(api["paths"]["/health"]["get"].get("security"), None);
    }
}
