//! Reads the attributes of a request that the rules of access go by: the verb of Kubernetes, and a resource or a path.

use axum::http::Method;

use super::Query;
use crate::access::Attributes;
use crate::path::{self, Path};

/// The attributes of a request. Its path has no slash at the end.
pub fn of(method: &Method, path: &str, query: &Query) -> Attributes {
    let (unwatched, watched) = path::unwatched(path);
    let Some((asked, _)) = Path::begin(&unwatched) else {
        let path = if path.is_empty() { "/" } else { path };
        return Attributes::Path { verb: method.as_str().to_ascii_lowercase(), path: path.to_owned() };
    };
    let all = asked.name.is_empty();
    let verb = match *method {
        _ if watched => "watch",
        Method::GET | Method::HEAD if all && query.is("watch") => "watch",
        Method::GET | Method::HEAD if all => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if all => "deletecollection",
        Method::DELETE => "delete",
        _ => "",
    };
    // A list of one object by its name is about that object.
    let name = match verb {
        "list" | "watch" if all => named(query.get("fieldSelector")).unwrap_or_default().to_owned(),
        _ => asked.name,
    };
    // A namespace is within itself.
    let within_itself = asked.plural == "namespaces" && asked.namespace.is_empty();
    let namespace = if within_itself { name.clone() } else { asked.namespace };
    Attributes::Resource {
        verb: verb.to_owned(),
        group: asked.group,
        resource: asked.plural,
        subresource: asked.subresource,
        namespace,
        name,
    }
}

/// The name that a field selector demands.
fn named(selector: &str) -> Option<&str> {
    let name = selector.split(',').find_map(|term| term.trim().strip_prefix("metadata.name="))?;
    let name = name.strip_prefix('=').unwrap_or(name);
    let legal = !matches!(name, "" | "." | "..") && !name.contains(['/', '%']);
    legal.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(line: &str) -> String {
        let (method, uri) = line.split_once(' ').unwrap();
        let uri: axum::http::Uri = uri.parse().unwrap();
        let method = method.parse().unwrap();
        match of(&method, uri.path().trim_end_matches('/'), &Query::of(&uri)) {
            Attributes::Path { verb, path } => format!("{verb} {path}"),
            Attributes::Resource { verb, group, resource, subresource, namespace, name } => {
                format!("{verb} {group}:{resource}/{subresource} {namespace}:{name}")
            }
        }
    }

    #[test]
    fn a_request_has_the_verb_and_the_resource_that_kubernetes_sees() {
        for (line, wanted) in [
            ("GET /api/v1/pods", "list :pods/ :"),
            ("GET /api/v1/namespaces/a/pods/?watch=1", "watch :pods/ a:"),
            ("GET /api/v1/watch/namespaces/a/pods/b", "watch :pods/ a:b"),
            ("GET /api/v1/namespaces/a/pods/b", "get :pods/ a:b"),
            ("GET /api/v1/namespaces/a/pods/b/log", "get :pods/log a:b"),
            ("GET /api/v1/namespaces/a/pods/b/proxy/c/d", "get :pods/proxy a:b"),
            ("POST /api/v1/namespaces/a/serviceaccounts/b/token", "create :serviceaccounts/token a:b"),
            ("PUT /apis/apps/v1/namespaces/a/deployments/b/scale", "update apps:deployments/scale a:b"),
            ("PATCH /apis/apps/v1/namespaces/a/deployments/b", "patch apps:deployments/ a:b"),
            ("DELETE /apis/apps/v1/namespaces/a/deployments/b", "delete apps:deployments/ a:b"),
            ("DELETE /api/v1/namespaces/a/pods?fieldSelector=x", "deletecollection :pods/ a:"),
            ("GET /api/v1/namespaces/a", "get :namespaces/ a:a"),
            ("PUT /api/v1/namespaces/a/finalize", "update :namespaces/finalize a:a"),
            ("GET /api/v1/namespaces", "list :namespaces/ :"),
            ("OPTIONS /api/v1/pods", " :pods/ :"),
            ("GET /api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3Dx", "list :secrets/ a:x"),
            ("GET /api/v1/namespaces/a/secrets?fieldSelector=type==y,metadata.name==x", "list :secrets/ a:x"),
            ("GET /api/v1/namespaces/a/secrets?fieldSelector=metadata.name!%3Dx", "list :secrets/ a:"),
            ("GET /api/v1/namespaces/a/secrets?fieldSelector=metadata.name=..", "list :secrets/ a:"),
            (
                "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                "create authorization.k8s.io:selfsubjectaccessreviews/ :",
            ),
            ("GET /", "get /"),
            ("GET /version/", "get /version"),
            ("HEAD /healthz", "head /healthz"),
            ("GET /api/v1", "get /api/v1"),
            ("GET /apis/apps/v1/", "get /apis/apps/v1"),
            ("GET /api/v1//pods", "get /api/v1//pods"),
        ] {
            assert_eq!(seen(line), wanted, "{line}");
        }
    }
}
