//! Proxies in front of a server in development mode, cross-origin pages, and response headers.

use serde_json::json;

use super::{head, header, said};
use crate::harness::{Kind, World, client};

const QUERY: &str = "/graphql?query={viewer{role}}";

async fn get(world: &World, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = client().get(format!("http://{}{path}", world.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn post(world: &World, headers: &[(&str, &str)]) -> u16 {
    let mut request = client().post(format!("http://{}/graphql", world.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.json(&json!({ "query": "{ viewer { role } }" })).send().await.unwrap().status().as_u16()
}

pub(in crate::security) const PROXIED: [(&str, &str); 17] = [
    ("X-Forwarded-For", "203.0.113.7"),
    ("x-forwarded-for", "127.0.0.1"),
    ("Forwarded", "for=203.0.113.7"),
    ("Via", "1.1 proxy"),
    ("X-Real-IP", "203.0.113.7"),
    ("X-Forwarded-Host", "sortie.example"),
    ("X-Forwarded-Proto", "https"),
    ("CF-Connecting-IP", "203.0.113.7"),
    ("True-Client-IP", "203.0.113.7"),
    ("Client-IP", "203.0.113.7"),
    ("Forwarded-For", "203.0.113.7"),
    ("CF-Ray", "230b030023ae2822-SJC"),
    ("CDN-Loop", "cloudflare"),
    ("X-Azure-ClientIP", "203.0.113.7"),
    ("X-Vercel-Forwarded-For", "203.0.113.7"),
    ("X-Envoy-External-Address", "203.0.113.7"),
    ("Do-Connecting-IP", "203.0.113.7"),
];

/// Development mode rejects requests that came through a proxy, on every endpoint.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn development_mode_is_for_this_machine() {
    let world = World::new(Kind::Sqlite).await;
    assert_eq!((post(&world, &[]).await, get(&world, QUERY, &[]).await.0), (200, 200));
    assert_eq!(get(&world, "/metrics", &[]).await.0, 200);
    for proxied in PROXIED {
        assert_eq!(post(&world, &[proxied]).await, 403, "{proxied:?}");
        for path in [QUERY, "/graphql/stream?query={viewer{role}}", "/metrics"] {
            assert_eq!(get(&world, path, &[proxied]).await.0, 403, "{path} {proxied:?}");
        }
        let upgrade = format!(
            "GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n{}: {}\r\n\r\n",
            proxied.0, proxied.1
        );
        let told = head(&mut said(world.address, upgrade.as_bytes()).await).await;
        assert!(told.starts_with("HTTP/1.1 403"), "{proxied:?}: {told}");
    }
    for site in ["cross-site", "Cross-Site", "CROSS-SITE"] {
        assert_eq!(get(&world, QUERY, &[("Sec-Fetch-Site", site)]).await.0, 403, "{site}");
    }
    // DNS rebinding: a page whose name resolves to this machine.
    for host in ["evil.example", "evil.example:4000", "127.0.0.1.evil.example", "localhost.evil.example"] {
        assert_eq!(post(&world, &[("Host", host)]).await, 403, "{host}");
        assert_eq!(get(&world, "/metrics", &[("Host", host)]).await.0, 403, "{host}");
    }
    let two = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    let told = head(&mut said(world.address, two.as_bytes()).await).await;
    assert!(told.starts_with("HTTP/1.1 400"), "{told}");
    world.end().await;
}

/// Two credentials are refused, even if both are valid: a proxy might have read the other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_credential() {
    let world = World::with_auth(Kind::Sqlite).await;
    let key = world.shown.lock().unwrap().clone().unwrap();
    let own = format!("Authorization: Bearer {key}\r\n");
    for (shown, status) in
        [(own.clone(), "200"), (own.repeat(2), "400"), (format!("{own}authorization: Bearer x\r\n"), "400")]
    {
        let request = format!("GET /graphql?query=%7B__typename%7D HTTP/1.1\r\nHost: localhost\r\n{shown}\r\n");
        let told = head(&mut said(world.address, request.as_bytes()).await).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {told}");
    }
    world.end().await;
}

/// An ambiguous host is rejected before all else, whatever the key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_one_host() {
    let world = World::with_auth(Kind::Sqlite).await;
    let key = world.shown.lock().unwrap().clone().unwrap();
    let asked = async |version: &str, target: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("Host: {host}\r\n")).collect();
        let request = format!("GET {target} {version}\r\n{hosts}Authorization: Bearer {key}\r\n\r\n");
        head(&mut said(world.address, request.as_bytes()).await).await
    };
    let query = "/graphql?query=%7B__typename%7D";
    for hosts in [
        &[][..],
        &["localhost", "localhost"],
        &["localhost", "evil.example"],
        &[""],
        &["a b"],
        &["user@localhost"],
        &["localhost:port"],
        &["localhost:99999"],
        &["[::1"],
        &["[nonsense]"],
        &["local,host"],
        &["localhost/path"],
        &["b\u{fc}cher.example"],
    ] {
        for target in [query, "/healthz", "/nowhere"] {
            let told = asked("HTTP/1.1", target, hosts).await;
            assert!(told.starts_with("HTTP/1.1 400"), "{target} {hosts:?}: {told}");
            assert!(told.to_lowercase().contains("connection: close"), "{told}");
        }
    }
    let told = asked("HTTP/1.1", &format!("http://evil.example{query}"), &["localhost"]).await;
    assert!(told.starts_with("HTTP/1.1 400"), "{told}");
    for host in ["localhost", "LOCALHOST:80", "sortie.example", "10.0.0.1:4000", "[::1]:4000", "[2001:db8::1]"] {
        let told = asked("HTTP/1.1", query, &[host]).await;
        assert!(told.starts_with("HTTP/1.1 200"), "{host}: {told}");
    }
    let told = asked("HTTP/1.0", "/healthz", &[]).await;
    assert!(told.contains(" 200"), "{told}");
    world.end().await;
}

/// `/metrics` of a server with keys is open to this machine under its own name, and to admins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_for_this_machine_and_admins() {
    let world = World::with_auth(Kind::Sqlite).await;
    let shown = format!("Bearer {}", world.shown.lock().unwrap().clone().unwrap());
    assert_eq!(get(&world, "/metrics", &[]).await.0, 200);
    let from_elsewhere = PROXIED.into_iter().chain([("Host", "evil.example"), ("Host", "sortie.example")]);
    for told in from_elsewhere {
        assert_eq!(get(&world, "/metrics", &[told]).await.0, 401, "{told:?}");
        assert_eq!(get(&world, "/metrics", &[told, ("Authorization", &shown)]).await.0, 200, "{told:?}");
    }
    assert_eq!(get(&world, "/metrics", &[("Sec-Fetch-Site", "cross-site")]).await.0, 403);
    assert_eq!(get(&world, "/metrics", &[("Origin", "https://evil.example")]).await.0, 403);
    world.end().await;
}

/// Cross-site requests that a browser sends without `Origin` are rejected wherever a POST would be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_elsewhere_ask_nothing() {
    let open = World::new(Kind::Sqlite).await;
    let guarded =
        World::with_config(Kind::Sqlite, |config| config.allow_origins = vec!["https://app.example".into()]).await;
    let shown = format!("Bearer {}", guarded.shown.lock().unwrap().clone().unwrap());
    let shown = ("Authorization", shown.as_str());
    let site = |site| ("Sec-Fetch-Site", site);
    for path in [QUERY, "/graphql/stream?query={viewer{role}}"] {
        for mode in ["no-cors", "navigate", "websocket"] {
            let headers = [site("cross-site"), ("Sec-Fetch-Mode", mode)];
            assert_eq!(get(&open, path, &headers).await.0, 403, "{path} {mode}");
            assert_eq!(get(&guarded, path, &[headers[0], headers[1], shown]).await.0, 403, "{path} {mode}");
        }
        assert_eq!(get(&guarded, path, &[site("same-site"), shown]).await.0, 403);
        for from_here in ["same-origin", "none"] {
            assert_eq!(get(&open, path, &[site(from_here)]).await.0, 200, "{from_here}");
            assert_eq!(get(&guarded, path, &[site(from_here), shown]).await.0, 200, "{from_here}");
        }
        let allowed = [site("cross-site"), ("Origin", "https://app.example"), shown];
        assert_eq!(get(&guarded, path, &allowed).await.0, 200);
    }
    assert_eq!(post(&guarded, &[site("cross-site"), shown]).await, 403);
    open.end().await;
    guarded.end().await;
}

/// Every response, also an error, forbids content sniffing and caching.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_carry_their_headers() {
    let world = World::with_auth(Kind::Sqlite).await;
    let shown = format!("Authorization: Bearer {}\r\n", world.shown.lock().unwrap().clone().unwrap());
    let told = async |request: &str| head(&mut said(world.address, request.as_bytes()).await).await;
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    for (request, status) in [
        (get(QUERY, &shown), "200"),
        (get(QUERY, ""), "401"),
        (get("/graphql?query={", &shown), "200"),
        (get(QUERY, "Accept: image/png\r\n"), "406"),
        (get("/healthz", ""), "200"),
        (get("/readyz", ""), "200"),
        (get("/metrics", ""), "200"),
        (get("/nothing", ""), "404"),
        ("DELETE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), "405"),
        (get("/graphql?query=subscription{events{kind}}", &format!("Accept: text/event-stream\r\n{shown}")), "200"),
    ] {
        let told = told(&request).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {told}");
        assert_eq!(header(&told, "x-content-type-options"), Some("nosniff"), "{request}: {told}");
        let kept = header(&told, "cache-control").unwrap_or_default();
        assert!(kept == "no-store" || kept == "no-cache, no-transform", "{request}: {told}");
    }
    for path in ["/graphiql", "/graphiql/start.js", "/graphiql/graphiql.min.css"] {
        let told = told(&get(path, "")).await;
        assert_eq!(
            (header(&told, "x-content-type-options"), header(&told, "x-frame-options")),
            (Some("nosniff"), Some("DENY"))
        );
        let policy = header(&told, "content-security-policy").unwrap();
        for part in [
            "default-src 'self'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("script-src") && !policy.contains("unsafe-eval"), "{policy}");
    }
    world.end().await;
}
