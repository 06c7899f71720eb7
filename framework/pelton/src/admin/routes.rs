//! What does each path answer?

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::status::{Health, Status};
use crate::telemetry::{self, MetricsHandle};

const PATHS: &str =
    "this endpoint has /livez, /readyz, /startupz, /metrics, /partitions and /memory";

#[derive(Clone)]
struct Shared {
    status: Arc<dyn Status>,
    metrics: Option<MetricsHandle>,
    only_local_names: bool,
}

/// The endpoint's paths. `only_local_names` is for a listener on loopback.
pub(super) fn router(
    status: Arc<dyn Status>,
    metrics: Option<MetricsHandle>,
    only_local_names: bool,
) -> Router {
    let shared = Shared { status, metrics, only_local_names };
    Router::new()
        .route("/livez", get(|State(at): State<Shared>| probe(&at, |health| health.live)))
        .route("/readyz", get(|State(at): State<Shared>| probe(&at, |health| health.ready)))
        .route("/startupz", get(|State(at): State<Shared>| probe(&at, |health| health.started)))
        .route("/metrics", get(metrics_text))
        .route("/partitions", get(async |State(at): State<Shared>| Json(at.status.partitions())))
        .route("/memory", get(async |State(at): State<Shared>| Json(at.status.memory())))
        .fallback(async || problem(StatusCode::NOT_FOUND, PATHS))
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

#[derive(Serialize)]
struct Verdict {
    ok: bool,
    #[serde(flatten)]
    health: Health,
}

fn probe(
    shared: &Shared,
    asked: fn(&Health) -> bool,
) -> std::future::Ready<(StatusCode, Json<Verdict>)> {
    let health = shared.status.health();
    let ok = asked(&health);
    let code = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    std::future::ready((code, Json(Verdict { ok, health })))
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match shared.metrics {
        Some(metrics) => {
            telemetry::measure_process();
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render())
                .into_response()
        }
        None => problem(
            StatusCode::NOT_FOUND,
            "this process has a metrics recorder that is not Pelton's; ask that one",
        ),
    }
}

/// Lets only GET pass, and on loopback only requests addressed to this machine.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    if request.method() != Method::GET {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "this endpoint only answers GET");
    }
    if shared.only_local_names && !is_local_name(request.headers()) {
        return problem(
            StatusCode::FORBIDDEN,
            "this endpoint listens on loopback; ask it by address or as localhost",
        );
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    response
}

/// Whether every `Host` header is an address or `localhost`. HTTP/1.0 may have none.
fn is_local_name(headers: &HeaderMap) -> bool {
    headers.get_all(HOST).iter().all(|host| {
        let Ok(host) = host.to_str() else {
            return false;
        };
        let bare = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let address = bare.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(bare);
        bare.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
    })
}

fn problem(code: StatusCode, reason: &str) -> Response {
    (code, Json(serde_json::json!({ "ok": false, "reasons": [reason] }))).into_response()
}

#[cfg(test)]
mod tests {
    use super::{HOST, HeaderMap, is_local_name};

    #[test]
    fn only_addresses_and_localhost_are_local_names() {
        let local = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            is_local_name(&headers)
        };
        for good in
            ["127.0.0.1", "127.0.0.1:9464", "[::1]:9464", "[::1]", "LocalHost:1", "10.1.2.3"]
        {
            assert!(local(good), "{good}");
        }
        for bad in ["evil.example:9464", "localhost.evil.example", "", "127.0.0.1.evil.example"] {
            assert!(!local(bad), "{bad}");
        }
        assert!(is_local_name(&HeaderMap::new()));
    }
}
