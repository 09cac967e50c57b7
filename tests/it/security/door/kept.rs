//! Texts and bytes of clients that are kept in memory: bounded one by one, and shared out among keys
//! and orgs.

use std::net::IpAddr;

use entity::id::{Id, OrgId};
use entity::member::Role;
use serde_json::{Value, json};
use sortie::kernel::cost::CostOwner;
use sortie::kernel::limits;
use sortie::transport::address_limits::{Addresses, BufferedBytes};
use uuid::Uuid;

use super::bodies::{bearer, post};
use super::said;
use crate::harness::socket::Socket;
use crate::harness::{Kind, World, client, key};

const MIB: usize = 1024 * 1024;

/// The id of an operation on an SSE stream is kept while the operation runs, and stands in each of
/// its events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_operations_on_a_stream_are_bounded() {
    let world = World::new(Kind::Sqlite).await;
    let url = format!("http://{}/graphql/stream", world.address);
    let token = client().put(&url).send().await.unwrap().text().await.unwrap();
    let most = limits::OPERATION_ID_BYTES;
    for (id, status) in [
        (json!("1"), 202),
        (json!("x".repeat(most)), 202),
        (json!("\u{e9}".repeat(most / 2)), 202),
        (json!("x".repeat(most + 1)), 400),
        (json!("\u{e9}".repeat(most / 2 + 1)), 400),
        (json!("x".repeat(MIB / 2)), 400),
        (json!(""), 400),
        (json!(1), 400),
        (Value::Null, 400),
    ] {
        let body = json!({ "query": "subscription { events { kind } }", "extensions": { "operationId": id } });
        let begun = client().post(&url).header("x-graphql-event-stream-token", &token).json(&body);
        let begun = begun.send().await.unwrap();
        let (found, told) = (begun.status().as_u16(), begun.text().await.unwrap());
        assert_eq!(found, status, "{told:.200}");
        let named: String = url::form_urlencoded::byte_serialize(id.as_str().unwrap_or_default().as_bytes()).collect();
        let ended = client().delete(format!("{url}?operationId={named}"));
        let ended = ended.header("x-graphql-event-stream-token", &token);
        // A longer URL than this is refused before it is read.
        if id.as_str().is_none_or(|id| id.len() < 1_000) {
            assert_eq!(ended.send().await.unwrap().status(), if status == 202 { 200 } else { 400 });
        }
        if status == 400 {
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["errors"][0]["extensions"]["field"], "operationId", "{told}");
            assert!(told.to_string().len() < 500);
        }
    }
    world.end().await;
}

fn owner(org: u128, key: u128) -> CostOwner {
    CostOwner { org: OrgId::from_uuid(Uuid::from_u128(org)), key: Uuid::from_u128(key) }
}

/// Adds messages of a size, each until one is refused; returns how many were not.
fn fill(
    loads: &mut Vec<BufferedBytes>,
    size: usize,
    next: impl Fn() -> BufferedBytes,
) -> (usize, sortie::transport::error::RequestError) {
    for count in 0.. {
        let mut load = next();
        match load.add(size) {
            Ok(()) => loads.push(load),
            Err(error) => return (count, error),
        }
    }
    unreachable!("there is no bound")
}

/// Bytes have bounds of keys, orgs and addresses, and in total; an eighth of each is for small
/// messages.
#[test]
fn bytes_are_shared_out() {
    let table = &Addresses::new(2);
    let behind = IpAddr::from([192, 0, 2, 1]);
    let (large, small) = (MIB + limits::LOAD_FREE_BYTES, limits::LOAD_SMALL_BYTES);
    let mut loads = Vec::new();
    let of = |org, key| move || table.load(behind, true, owner(org, key));
    let (count, error) = fill(&mut loads, large, of(1, 11));
    assert_eq!((count, error.code(), error.retry), (7, "LIMIT_EXCEEDED", Some(1)));
    assert_eq!(fill(&mut loads, small, of(1, 11)).0, MIB / (small - limits::LOAD_FREE_BYTES));
    // Another key of the org, up to what the org may have.
    let (count, error) = fill(&mut loads, large, of(1, 12));
    assert_eq!((count, error.code()), (6, "LIMIT_EXCEEDED"));
    assert!(error.body().to_string().contains("organisation"), "{error:?}");
    assert!(of(1, 13)().add(small).is_ok());
    // Other orgs, up to what there is in total.
    assert_eq!(fill(&mut loads, large, of(2, 21)).0, 7);
    assert_eq!(fill(&mut loads, large, of(2, 22)).0, 7);
    let (count, error) = fill(&mut loads, large, of(3, 31));
    assert_eq!((count, error.code()), (0, "UNAVAILABLE"));
    assert!(of(3, 31)().add(small).is_ok() && of(3, 31)().add(limits::LOAD_FREE_BYTES).is_ok());
    // What is released may be used again.
    let mut last = loads.pop().unwrap();
    last.take_off(large);
    assert!(of(3, 31)().add(large).is_ok());
    drop((last, loads));
    assert_eq!(table.count(), 0);
    // One address, with many keys.
    let mut loads = Vec::new();
    let keys = std::cell::Cell::new(0);
    let next = || {
        keys.set(keys.get() + 1);
        table.load(behind, false, owner(keys.get(), keys.get()))
    };
    let (count, error) = fill(&mut loads, large, next);
    assert_eq!((count, error.code()), (7, "LIMIT_EXCEEDED"));
    drop(loads);
    assert_eq!(table.count(), 0);
}

/// Bodies without their last byte take up a part of the memory: small bodies and messages of others
/// are still received, also of the same org.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_leave_room_for_others() {
    let world = World::with_config(Kind::Sqlite, |config| config.client_seconds = 600).await;
    let mut keys = Vec::new();
    for name in ["A", "B", "C"] {
        let email = format!("{name}@example.com");
        let (_, viewer) = sortie::domain::people::org::create(&world.db.write(), name, name, &email).await.unwrap();
        for _ in 0..3 {
            keys.push(key(&world.db, &viewer, Role::Viewer, None).await);
        }
    }
    let (slow, other, neighbour) = ([&keys[0], &keys[1], &keys[3], &keys[4]], &keys[6], &keys[2]);
    let ask = async |key: &str, size: usize| {
        let body = json!({ "query": "{ viewer { role } }", "variables": { "long": "x".repeat(size) } });
        let request = client().post(format!("http://{}/graphql", world.address)).bearer_auth(key).json(&body);
        request.send().await.unwrap().status().as_u16()
    };
    let mut held = Vec::new();
    while ask(other, MIB - 200).await != 503 {
        for key in slow {
            let bytes = [post("/graphql", "application/json", MIB, &bearer(key)), vec![b' '; MIB - 1]].concat();
            held.push(said(world.address, &bytes).await);
        }
    }
    for key in [other, neighbour] {
        assert_eq!(ask(key, 60_000).await, 200);
        let mut socket = Socket::open_as(world.address, key).await;
        assert_eq!(socket.message().await["type"], "connection_ack");
        socket.subscribe("1", "{ viewer { role } }", json!({ "long": "x".repeat(20_000) })).await;
        assert_eq!(socket.next().await["viewer"]["role"], "VIEWER");
    }
    // Those whose bodies are slow have no more room for large ones, and are told so.
    let mut told = Vec::new();
    for key in slow {
        told.push(ask(key, MIB - 200).await);
    }
    assert!(told.contains(&429), "{told:?}");
    drop(held);
    while ask(other, MIB - 200).await != 200 {}
    world.end().await;
}
