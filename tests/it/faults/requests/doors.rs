//! Headers and tokens in the forms that all kinds of clients send.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::harness::socket::Socket;
use crate::harness::{World, noon};

both! {
    async fn accept_as_clients_write_it(kind) {
        let world = World::new(kind).await;
        let url = format!("http://{}/graphql", world.address);
        let client = crate::harness::client();
        let ask = async |accept: Option<&str>| {
            let request = client.post(&url).json(&json!({ "query": "{ viewer { role } }" }));
            let request = match accept {
                Some(accept) => request.header("accept", accept),
                None => request,
            };
            let response = request.send().await.unwrap();
            let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
            (response.status().as_u16(), kind)
        };
        let (json, graphql, events) = ("application/json; charset=utf-8", "application/graphql-response+json; charset=utf-8", "text/event-stream; charset=utf-8");
        for (accept, wanted) in [
            ("application/json; charset=utf-8", json),
            ("application/json;charset=UTF-8, */*", json),
            ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", json),
            ("", json),
            ("*/*", json),
            ("application/*", json),
            ("Application/JSON", json),
            ("application/graphql-response+json", graphql),
            ("application/graphql-response+json; charset=utf-8, application/json; charset=utf-8", graphql),
            ("application/json, application/graphql-response+json", json),
            ("application/json;q=0.9, application/graphql-response+json", graphql),
            ("application/json;q=0.5;odd, application/graphql-response+json;q=\"no\"", json),
            ("application/graphql-response+json;q=0, */*", json),
            ("application/json;q=0, application/*", graphql),
            ("application/json; profile=\"a, text/event-stream;q=1\"; q=0.3, application/graphql-response+json;q=0.2", json),
            ("text/event-stream", events),
            ("text/event-stream, */*;q=0.1", events),
            ("nonsense, application/json", json),
            ("nonsense", json),
            (",, ;q=1, /json, application/, application/graphql-response+json", graphql),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8", json),
            ("application/json, text/plain, */*", json),
            ("multipart/mixed;deferSpec=20220824, application/graphql-response+json, application/json;q=0.9", graphql),
        ] {
            assert_eq!(ask(Some(accept)).await, (200, wanted.to_owned()), "Accept: {accept}");
        }
        assert_eq!(ask(None).await, (200, json.to_owned()));
        for accept in ["text/html", "application/xml, image/*", "application/json;q=0", "text/html, */*;q=0"] {
            assert_eq!(ask(Some(accept)).await.0, 406, "Accept: {accept}");
        }
        world.end().await;
    }
}

both! {
    async fn an_empty_operation_name_is_none(kind) {
        let world = World::new(kind).await;
        let url = format!("http://{}/graphql", world.address);
        let client = crate::harness::client();
        let body = json!({ "query": "{ viewer { role } }", "operationName": "", "variables": null, "extensions": null });
        for accept in ["application/json", "text/event-stream"] {
            let told = client.post(&url).header("accept", accept).json(&body).send().await.unwrap().text().await.unwrap();
            assert!(told.contains("\"role\":\"ADMIN\""), "{told}");
        }
        let get = client.get(url::Url::parse_with_params(&url, [("query", "{ viewer { role } }"), ("operationName", ""), ("variables", "")]).unwrap());
        assert_eq!(get.send().await.unwrap().json::<Value>().await.unwrap()["data"]["viewer"]["role"], "ADMIN");
        let mut socket = Socket::open(world.address).await;
        socket.say(json!({ "id": "1", "type": "subscribe", "payload": body })).await;
        assert_eq!(socket.next().await["viewer"]["role"], "ADMIN");
        // A given operation name must exist; with several operations one must be named.
        let several = "query A { viewer { role } } query B { viewer { __typename } }";
        let ask = async |name: Value| {
            let request = client.post(&url).json(&json!({ "query": several, "operationName": name }));
            request.send().await.unwrap().json::<Value>().await.unwrap()
        };
        assert_eq!(ask(json!("B")).await["data"]["viewer"]["__typename"], "Viewer");
        for name in [json!(""), json!(null), json!("C"), json!(" ")] {
            assert_eq!(ask(name.clone()).await["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{name}");
        }
        world.end().await;
    }
}

fn signed(claims: &Value) -> String {
    let der = std::fs::read("tests/data/tokens/issuer.der").unwrap();
    let header = Header { kid: Some("issuer".into()), ..Header::new(Algorithm::RS256) };
    encode(&header, claims, &EncodingKey::from_rsa_der(&der)).unwrap()
}

both! {
    async fn numeric_dates_with_a_fraction(kind) {
        let world = World::with_config(kind, |config| {
            config.jwt_issuer = Some("https://issuer.example".into());
            config.jwt_audience = Some("sortie".into());
            config.jwt_jwks = Some("tests/data/tokens/jwks.json".into());
        })
        .await;
        world.create("member", json!({ "name": "Anna", "email": "anna@example.com", "role": "OPERATOR", "subject": "anna" })).await;
        let now = noon().timestamp() as f64;
        let ask = async |change: Value| {
            let mut claims = json!({ "iss": "https://issuer.example", "aud": "sortie", "sub": "anna", "exp": now + 3600.0 });
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            world.post_as(&signed(&claims), "{ viewer { role } }", json!({})).await.0
        };
        for good in [
            json!({ "exp": now + 60.5 }), json!({ "exp": now + 0.25, "nbf": now - 0.75, "iat": now - 0.5 }), json!({ "exp": 1e15 }), json!({ "exp": 1e18 }),
            json!({ "exp": (now as i64) + 60 }), json!({ "nbf": -1.5 }), json!({ "nbf": 0 }), json!({ "exp": now - 29.5 }), json!({ "nbf": now + 29.5 }),
        ] {
            assert_eq!(ask(good.clone()).await, 200, "{good}");
        }
        for bad in [json!({ "exp": now - 30.5 }), json!({ "exp": 0.5 }), json!({ "exp": -1e18 }), json!({ "nbf": now + 30.5 }), json!({ "exp": "soon" }), json!({ "exp": null })] {
            assert_eq!(ask(bad.clone()).await, 401, "{bad}");
        }
        world.end().await;
    }
}
