//! What d2k does not have, answered so that clients go on: swarm, builds, image archives.
//! The words say what to use instead.

use axum::Router;
use axum::body::Body;
use axum::routing::{any, post};
use serde_json::{Value, json};

use super::body::Json;
use super::early;
use super::error::Error;
use d2k_common::fault::Fault;

const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" \
                        to connect this node to swarm and try again.";
const USE_REGISTRY: &str =
    "push the image to a registry that the cluster can pull from, and pull it from there";

/// Routes of what is not there. The image routes are handlers beside it, because they share
/// their path with others.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let mut router = Router::new();
    for kind in ["/swarm", "/nodes", "/services", "/tasks", "/secrets", "/configs"] {
        router = router.route(kind, any(no_swarm)).route(&format!("{kind}/{{*rest}}"), any(no_swarm));
    }
    router
        .route(
            "/swarm/leave",
            post(async || Error::from(Fault::unavailable("This node is not part of a swarm"))),
        )
        .route("/session", post(async || no_build("A build session")))
        .route("/grpc", post(async || no_build("A build session")))
        .route("/build", post(build))
        .route("/build/cancel", post(async || no_build("Cancelling a build")))
        .route("/build/prune", post(build_prune))
        .route("/commit", post(commit))
}

async fn no_swarm() -> Error {
    Fault::unavailable(NO_SWARM).into()
}

fn no_build(what: &str) -> Error {
    Fault::not_implemented(format!(
        "{what} is not possible: d2k has no build engine. Build with `docker buildx build --push` on a \
         machine with an engine, or in the cluster; then {USE_REGISTRY}"
    ))
    .into()
}

async fn build(context: Body) -> Error {
    early::drain(&mut early::reader(context)).await;
    no_build("A build")
}

async fn build_prune() -> Json<Value> {
    Json(json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
}

async fn commit() -> Error {
    Fault::not_implemented(format!(
        "commit is not possible: Kubernetes keeps no layer of a container. Write a Dockerfile, build it elsewhere, \
         {USE_REGISTRY}"
    ))
    .into()
}

/// POST `/images/{name}/push`.
pub async fn image_push() -> Error {
    Fault::not_implemented(
        "push is not possible: d2k holds no images. Push from where the image was built, or copy between registries \
         with `skopeo copy` or `crane copy`",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::super::version::front;
    use super::*;

    async fn ask(method: &str, path: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = front(router(), crate::guard::tests::open()).oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn there_is_no_swarm() {
        for (method, path) in
            [("GET", "/v1.41/swarm"), ("POST", "/swarm/init"), ("GET", "/nodes/x"), ("GET", "/tasks")]
        {
            assert_eq!(ask(method, path).await, (503, json!({ "message": NO_SWARM })), "{path}");
        }
    }

    #[tokio::test]
    async fn builds_are_refused_but_their_cache_can_be_pruned() {
        for path in ["/build", "/session", "/grpc", "/commit", "/build/cancel"] {
            assert_eq!(ask("POST", path).await.0, 501, "{path}");
        }
        assert_eq!(ask("POST", "/build/prune").await.0, 200);
    }
}
