//! A15: uploads that each occupy a thread for as long as their client likes.

use entity::member::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::World;

/// An upload that has started, and continues when its client likes.
async fn begun(world: &World, key: &str) -> TcpStream {
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /import/records?kind=lead HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\ncontent-type: text/csv\r\n\
         transfer-encoding: chunked\r\n\r\n12\r\nexternal_id,name\n\n\r\n",
        world.address
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

async fn whole(world: &World, key: &str) -> (u16, String, serde_json::Value) {
    let import = crate::harness::client().post(format!("http://{}/import/records?kind=lead", world.address));
    let import = import.bearer_auth(key).header("content-type", "text/csv").body("external_id,name\nL-1,Lead\n");
    let response = import.send().await.unwrap();
    let again = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), again.unwrap_or_default(), response.json().await.unwrap())
}

/// Repeats an import until its response is the expected one. An upload whose slot was taken by
/// another import is restarted.
async fn until(world: &World, key: &str, status: u16, open: &mut [(TcpStream, &str)]) -> serde_json::Value {
    let all = async {
        loop {
            for (socket, key) in open.iter_mut() {
                if socket.try_read(&mut [0; 4096]).is_ok() {
                    *socket = begun(world, key).await;
                }
            }
            let (got, again, body) = whole(world, key).await;
            assert!(got == 200 || (got == 429 && again == "5"), "{got} {again} {body}");
            if got == status {
                return body;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("an answer in time")
}

both! {
    async fn slow_uploads_hold_up_nobody(kind) {
        // The uploads last longer than the test.
        let world = World::with_config(kind, |config| config.client_seconds = 60).await;
        let (one, other, third) = (world.key(Role::Manager).await, world.key(Role::Manager).await, world.key(Role::Manager).await);
        let mut open = vec![(begun(&world, &one).await, one.as_str()), (begun(&world, &one).await, one.as_str())];
        let told = until(&world, &one, 429, &mut open).await;
        assert_eq!(told["errors"][0]["extensions"], json!({ "code": "LIMIT_EXCEEDED", "retryAfterSeconds": 5 }));
        // Another key of the org may import, up to the org's own limit.
        assert_eq!(until(&world, &other, 200, &mut open).await["status"], "COMPLETED");
        open.extend([(begun(&world, &other).await, other.as_str()), (begun(&world, &other).await, other.as_str())]);
        until(&world, &third, 429, &mut open).await;
        // The pool of blocking threads is free, and so is everything else.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        world.ask("{ records { totalCount } }", json!({})).await;
        // An upload that ends frees its slot: finished, or aborted.
        let (mut finished, _) = open.remove(0);
        finished.write_all(b"9\r\nL-2,Lead\n\r\n0\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let count = finished.read(&mut answer).await.unwrap();
        assert!(answer[..count].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..count]));
        drop(open);
        until(&world, &one, 200, &mut []).await;
        until(&world, &third, 200, &mut []).await;
        // An aborted import is reported as incomplete.
        let query = "{ imports { nodes { status failure } } }";
        let ended = world.until("all imports to end", query, json!({}), |data| {
            data["imports"]["nodes"].as_array().unwrap().iter().all(|one| one["status"] != "RUNNING")
        });
        let failed = ended.await["imports"]["nodes"].as_array().unwrap().iter().filter(|one| one["status"] == "FAILED").count();
        assert_eq!(failed, 3);
        world.end().await;
    }
}
