//! A token issuer that is down, hangs or publishes odd keys; and tokens with odd headers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

use crate::harness::{Kind, World, noon};

const ME: &str = "{ viewer { role } }";

fn token(kid: &str, sub: &str, change: impl FnOnce(&mut Header)) -> String {
    let der = std::fs::read("tests/data/tokens/issuer.der").unwrap();
    let mut header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::RS256) };
    change(&mut header);
    let claims =
        json!({ "iss": "https://issuer.example", "aud": "sortie", "sub": sub, "exp": noon().timestamp() + 3600 });
    encode(&header, &claims, &EncodingKey::from_rsa_der(&der)).unwrap()
}

fn keys() -> Value {
    serde_json::from_str(&std::fs::read_to_string("tests/data/tokens/jwks.json").unwrap()).unwrap()
}

/// An issuer with a configurable response; none at all while that is null.
async fn issuer(shows: watch::Receiver<Value>) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut hung = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]).await;
            let keys = shows.borrow().clone();
            if keys.is_null() {
                hung.push(stream);
                continue;
            }
            let keys = keys.to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", keys.len());
            let _ = stream.write_all(format!("{head}{keys}").as_bytes()).await;
        }
    });
    (url, asked)
}

async fn world(url: String) -> World {
    let world = World::with_config(Kind::Sqlite, |config| {
        config.jwt_issuer = Some("https://issuer.example".into());
        config.jwt_audience = Some("sortie".into());
        config.jwt_jwks = Some(url);
    })
    .await;
    for name in ["anna", "berta", "clara"] {
        let email = format!("{name}@example.com");
        world.create("member", json!({ "name": name, "email": email, "role": "OPERATOR", "subject": name })).await;
    }
    world
}

/// Cached keys stay valid; a token with an unknown key id neither delays the others nor causes
/// repeated requests to the issuer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_hangs_holds_up_nobody() {
    let (show, shows) = watch::channel(keys());
    let (url, asked) = issuer(shows).await;
    let world = world(url).await;
    assert_eq!(world.post_as(&token("issuer", "anna", |_| {}), ME, json!({})).await.0, 200);
    show.send_replace(Value::Null);
    let begun = Instant::now();
    for i in 0..10 {
        let (status, _) = world.post_as(&token(&format!("unknown{i}"), "anna", |_| {}), ME, json!({})).await;
        assert!(status == 401 || status == 503, "{status}");
    }
    for name in ["berta", "clara"] {
        assert_eq!(world.post_as(&token("issuer", name, |_| {}), ME, json!({})).await.0, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(asked.load(Ordering::SeqCst) <= 2, "{asked:?}");
    world.end().await;
}

/// An issuer that hangs from the start: requests wait together for one timeout, and get an error
/// that the token can't be verified.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_never_answers() {
    let (_show, shows) = watch::channel(Value::Null);
    let (url, asked) = issuer(shows).await;
    let world = world(url).await;
    let begun = Instant::now();
    let (first, second) = (token("issuer", "anna", |_| {}), token("issuer", "berta", |_| {}));
    let all = futures_util::future::join_all(
        (0..10).map(|i| world.post_as(if i % 2 == 0 { &first } else { &second }, ME, json!({}))),
    )
    .await;
    for (status, told) in all {
        assert_eq!((status, &told["errors"][0]["extensions"]["code"]), (503, &json!("UNAVAILABLE")), "{told}");
    }
    for _ in 0..5 {
        assert_eq!(world.post_as(&first, ME, json!({})).await.0, 503);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(asked.load(Ordering::SeqCst) <= 3, "{asked:?}");
    // API keys keep working, whatever the issuer does.
    assert_eq!(world.ask(ME, json!({})).await["viewer"]["role"], "ADMIN");
    world.end().await;
}

/// A key whose use is not signatures verifies nothing; an unreadable one does not affect the
/// others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_used_for_what_they_are_for() {
    let own = keys()["keys"][0].clone();
    let with = |name: &str, value: Value| {
        let mut key = own.clone();
        key["kid"] = json!(name);
        key[if name == "ops" {
            "key_ops"
        } else if name == "alg" {
            "alg"
        } else {
            "use"
        }] = value;
        if name == "ops" {
            key.as_object_mut().unwrap().remove("use");
        }
        key
    };
    let set = json!({ "keys": [
        { "kty": "XYZ", "kid": "odd" }, 17, null, with("enc", json!("enc")), with("ops", json!(["encrypt"])), with("alg", json!("RS512")), own,
        { "kty": "oct", "kid": "secret", "k": "c2VjcmV0" },
    ] });
    let (_show, shows) = watch::channel(set);
    let (url, _) = issuer(shows).await;
    let world = world(url).await;
    for kid in ["enc", "ops", "alg", "odd", "secret"] {
        assert_eq!(world.post_as(&token(kid, "anna", |_| {}), ME, json!({})).await.0, 401, "{kid}");
    }
    assert_eq!(world.post_as(&token("issuer", "anna", |_| {}), ME, json!({})).await.0, 200);
    for crit in [vec!["exp".to_owned()], vec!["b64".to_owned()], vec!["x".to_owned()], vec![]] {
        let shown = token("issuer", "anna", |header| header.crit = Some(crit.clone()));
        let (_, head) = (&shown, shown.split('.').next().unwrap());
        let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(head).unwrap();
        assert!(String::from_utf8_lossy(&head).contains("crit"));
        assert_eq!(world.post_as(&shown, ME, json!({})).await.0, 401, "{crit:?}");
    }
    world.end().await;
}

/// An issuer may publish several keys under one id: each is tried that fits the algorithm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_with_one_id_are_all_tried() {
    let own = keys()["keys"][0].clone();
    let mut another = own.clone();
    let modulus = own["n"].as_str().unwrap();
    let middle = modulus.len() / 2;
    let other = if &modulus[middle..=middle] == "A" { "B" } else { "A" };
    another["n"] = json!(format!("{}{other}{}", &modulus[..middle], &modulus[middle + 1..]));
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    let y = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";
    let curve = json!({ "kty": "EC", "crv": "P-256", "kid": own["kid"], "x": x, "y": y });
    // Those of another family do not count.
    let mut all = vec![curve; 5];
    all.extend([another, own]);
    let (_show, shows) = watch::channel(json!({ "keys": all }));
    let (url, _) = issuer(shows).await;
    let world = world(url).await;
    assert_eq!(world.post_as(&token("issuer", "anna", |_| {}), ME, json!({})).await.0, 200);
    assert_eq!(world.post_as(&token("other", "anna", |_| {}), ME, json!({})).await.0, 401);
    world.end().await;
}
