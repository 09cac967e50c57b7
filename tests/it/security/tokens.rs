//! Tokens of an identity provider: accepted only if issued by it, for us, signed as configured, and
//! not expired.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use entity::id::OrgId;
use entity::member::Role;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::socket::{Came, Socket};
use crate::harness::{World, noon};

const ME: &str = "{ viewer { orgId role member { name } } }";

fn signed(key: &str, kid: Option<&str>, claims: &Value) -> String {
    let der = std::fs::read(format!("tests/data/tokens/{key}.der")).unwrap();
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::RS256) };
    encode(&header, claims, &EncodingKey::from_rsa_der(&der)).unwrap()
}

fn claims() -> Value {
    json!({ "iss": "https://issuer.example", "aud": "sortie", "sub": "anna", "exp": noon().timestamp() + 3600 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

/// Serves an issuer's keys over HTTP and counts the requests.
async fn issuer() -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let keys = std::fs::read_to_string("tests/data/tokens/jwks.json").unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{keys}", keys.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

both! {
    async fn only_those_that_count(kind) {
        let (url, asked) = issuer().await;
        let world = World::with_config(kind, |config| {
            config.jwt_issuer = Some("https://issuer.example".into());
            config.jwt_audience = Some("sortie".into());
            config.jwt_jwks = Some(url);
        })
        .await;
        let member = world.create("member", json!({ "name": "Anna", "email": "anna@example.com", "role": "OPERATOR", "subject": "anna" })).await;
        let (status, told) = world.post_as(&signed("issuer", Some("issuer"), &claims()), ME, json!({})).await;
        assert_eq!((status, &told["data"]["viewer"]["role"], &told["data"]["viewer"]["member"]["name"]), (200, &json!("OPERATOR"), &json!("Anna")));
        let now = noon().timestamp();
        let none = {
            use base64::Engine;
            let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
            format!("{}.{}.", part(&json!({ "alg": "none", "typ": "JWT" })), part(&claims()))
        };
        // Algorithm confusion: the issuer's public key used as an HMAC secret.
        let confused = encode(&Header { kid: Some("issuer".into()), ..Header::new(Algorithm::HS256) }, &claims(), &EncodingKey::from_secret(&std::fs::read("tests/data/tokens/jwks.json").unwrap())).unwrap();
        let whole = signed("issuer", Some("issuer"), &claims());
        let cut = whole[..whole.len() - 8].to_owned();
        let wrong = [
            ("another key", signed("other", Some("issuer"), &claims())),
            ("an unknown key", signed("other", Some("other"), &claims())),
            ("another issuer", signed("issuer", Some("issuer"), &with("iss", json!("https://evil.example")))),
            ("a list of issuers", signed("issuer", Some("issuer"), &with("iss", json!(["https://issuer.example"])))),
            ("for others", signed("issuer", Some("issuer"), &with("aud", json!("others")))),
            ("expired", signed("issuer", Some("issuer"), &with("exp", json!(now - 60)))),
            ("not yet", signed("issuer", Some("issuer"), &with("nbf", json!(now + 600)))),
            ("nobody", signed("issuer", Some("issuer"), &with("sub", json!("bert")))),
            ("an org that is none", signed("issuer", Some("issuer"), &with("org", json!("nonsense")))),
            ("another org", signed("issuer", Some("issuer"), &with("org", json!(OrgId::new())))),
            ("no algorithm", none),
            ("a secret", confused),
            ("cut", cut),
            ("without an expiry", signed("issuer", Some("issuer"), &with("exp", Value::Null))),
            ("an expiry that is a text", signed("issuer", Some("issuer"), &with("exp", json!("soon")))),
            ("an expiry long ago", signed("issuer", Some("issuer"), &with("exp", json!(-1e300)))),
        ];
        for (why, token) in &wrong {
            let (status, told) = world.post_as(token, ME, json!({})).await;
            assert_eq!((status, &told["errors"][0]["extensions"]["code"]), (401, &json!("UNAUTHENTICATED")), "{why}: {told}");
        }
        // An expiry beyond the calendar is none, however large the number.
        for exp in [json!(1e18), json!(u64::MAX), json!(1e300)] {
            let (status, told) = world.post_as(&signed("issuer", Some("issuer"), &with("exp", exp.clone())), ME, json!({})).await;
            assert_eq!(status, 200, "{exp}: {told}");
        }
        // Unknown key ids don't cause repeated requests to the issuer.
        assert!(asked.load(Ordering::SeqCst) <= 2, "{asked:?}");
        // In another org the same subject is another member.
        let (org, _) = sortie::domain::people::org::create(&world.db.write(), "Other", "Otto", "otto@example.com").await.unwrap();
        let other = sortie::kernel::viewer::Viewer::admin_of(&world.db, org.id, "Other").await.unwrap();
        let fields = sortie::domain::people::member::Fields { subject: Some(Some("anna".into())), ..Default::default() };
        sortie::domain::people::member::update(&world.db.write(), &other, other.member_id().unwrap(), None, &fields).await.unwrap();
        let theirs = signed("issuer", Some("issuer"), &with("org", json!(org.id)));
        let (_, told) = world.post_as(&theirs, ME, json!({})).await;
        assert_eq!((&told["data"]["viewer"]["orgId"], &told["data"]["viewer"]["member"]["name"]), (&json!(org.id), &json!("Otto")));

        // A socket ends with its token, and with its member.
        let mut socket = Socket::open_as(world.address, &signed("issuer", Some("issuer"), &with("exp", json!(now + 60)))).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        let mut second = Socket::open_as(world.address, &whole).await;
        assert_eq!(second.message().await["type"], "connection_ack");
        world.clock.set(noon() + chrono::Duration::seconds(120));
        assert!(matches!(socket.came().await, Came::Closed(4403)));
        world.ask("mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }", json!({ "id": member })).await;
        assert!(matches!(second.came().await, Came::Closed(4403)));
        assert_eq!(world.post_as(&whole, ME, json!({})).await.0, 401);
        world.end().await;
    }
}

both! {
    /// On the node where a key is revoked, what it has open ends at once, long before the next
    /// check.
    async fn a_revoked_key_ends_its_streams_at_once(kind) {
        let world = World::with_config(kind, |config| config.recheck_seconds = 3_600).await;
        let key = world.key(Role::Viewer).await;
        let live = "subscription { events { kind } }";
        let mut socket = Socket::open_as(world.address, &key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        socket.subscribe("live", live, json!({})).await;
        let stream = crate::harness::client().post(format!("http://{}/graphql/stream", world.address)).bearer_auth(&key);
        let stream = stream.header("accept", "text/event-stream").json(&json!({ "query": live })).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        let id = format!("api_key_{}", key.split('_').nth(1).unwrap());
        let revoke = "mutation($id: ID!) { revokeApiKey(input: { id: $id }) { apiKey { revokedAt } } }";
        let begun = std::time::Instant::now();
        world.ask(revoke, json!({ "id": id })).await;
        let code = loop {
            match socket.came().await {
                Came::Message(_) => {}
                Came::Closed(code) => break code,
            }
        };
        assert_eq!(code, 4403);
        assert!(stream.text().await.unwrap().contains("UNAUTHENTICATED"));
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
        world.end().await;
    }
}
