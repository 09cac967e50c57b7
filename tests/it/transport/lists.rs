//! Live lists: what a client holds by the published algorithm is what the query answers.

mod difference;
mod nouns;
mod random;

use std::time::Duration;

use entity::id::OrgId;
use entity::member::Role;
use futures_util::StreamExt;
use serde_json::{Value, json};
use sortie::kernel::viewer::Viewer;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::World;
use crate::harness::cursor;
use crate::harness::socket::Socket;

/// The declared variables, the arguments, and the selection of a noun's list and its query.
struct Noun {
    list: &'static str,
    query: &'static str,
    variables: &'static str,
    arguments: &'static str,
    nodes: &'static str,
    totals: &'static str,
}

const RUNS: Noun = Noun {
    list: "runList",
    query: "runs",
    variables: "$filter: RunFilter, $orderBy: RunOrder, $first: Int",
    arguments: "filter: $filter, orderBy: $orderBy, first: $first",
    nodes: "id name status startedAt endedAt failure campaign { id name }",
    totals: "totalCount countsByStatus { status count }",
};

const CAMPAIGNS: Noun = Noun {
    list: "campaignList",
    query: "campaigns",
    variables: "$filter: CampaignFilter, $orderBy: CampaignOrder, $first: Int",
    arguments: "filter: $filter, orderBy: $orderBy, first: $first",
    nodes: "id name status version revision currentRun { id status }",
    totals: "totalCount",
};

const STEPS: Noun = Noun {
    list: "stepList",
    query: "steps",
    variables: "$filter: StepFilter, $orderBy: StepOrder, $first: Int",
    arguments: "filter: $filter, orderBy: $orderBy, first: $first",
    nodes: "id key type status dueAt error reasonCode result completedAt assignee { memberId }",
    totals: "totalCount",
};

const COMMUNICATIONS: Noun = Noun {
    list: "communicationList",
    query: "communications",
    variables: "$filter: CommunicationFilter, $first: Int",
    arguments: "filter: $filter, first: $first",
    nodes: "id status revision subject toAddress error sentAt replies(first: 1) { totalCount }",
    totals: "totalCount",
};

const REPLIES: Noun = Noun {
    list: "replyList",
    query: "replies",
    variables: "$filter: ReplyFilter, $orderBy: ReplyOrder, $first: Int",
    arguments: "filter: $filter, orderBy: $orderBy, first: $first",
    nodes: "id status revision body receivedAt record { id } assignee { id } followUp { id }",
    totals: "totalCount countsByStatus { status count }",
};

const REPLY: &str =
    "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes\" }) { reply { id } } }";

/// A client of a live list, which applies its items as the description says.
struct Client {
    noun: &'static Noun,
    variables: Value,
    /// The socket's messages, and the task that reads them: it also answers pings while the test
    /// looks elsewhere.
    messages: (UnboundedReceiver<Value>, JoinHandle<()>),
    list: Vec<Value>,
    totals: Value,
    cursor: String,
}

impl Client {
    async fn open(world: &World, noun: &'static Noun, variables: Value) -> Self {
        let messages = (unbounded_channel().1, tokio::spawn(async {}));
        let mut client =
            Self { noun, variables, messages, list: Vec::new(), totals: json!(null), cursor: String::new() };
        client.subscribe(world, json!(null)).await;
        client
    }

    async fn subscribe(&mut self, world: &World, after: Value) {
        let Noun { list, variables, arguments, nodes, totals, .. } = self.noun;
        let document = format!(
            "subscription({variables}, $after: String) {{ {list}({arguments}, after: $after) {{ \
             cursor kind nodes {{ {nodes} }} entered {{ node after }} left {totals} }} }}"
        );
        let mut all = self.variables.clone();
        all["after"] = after;
        let mut socket = Socket::open(world.address).await;
        socket.subscribe("list", &document, all).await;
        self.messages.1.abort();
        let (tell, messages) = unbounded_channel();
        let reader = async move {
            while let Some(Ok(frame)) = socket.0.next().await {
                if let Message::Text(text) = frame {
                    let _ = tell.send(serde_json::from_str(&text).unwrap());
                }
            }
        };
        self.messages = (messages, tokio::spawn(reader));
        let item = self.next().await;
        assert_eq!(item["kind"], "SNAPSHOT", "{item:#}");
    }

    /// Disconnects, and resumes after the last item.
    async fn reconnect(&mut self, world: &World) {
        self.subscribe(world, json!(self.cursor)).await;
    }

    /// Applies the next item.
    async fn next(&mut self) -> Value {
        let message = tokio::time::timeout(Duration::from_secs(60), self.messages.0.recv()).await;
        let message = message.expect("nothing came").expect("closed");
        assert_eq!(message["type"], "next", "{message:#}");
        let item = message["payload"]["data"][self.noun.list].clone();
        apply(&mut self.list, &item);
        let now = item["cursor"].as_str().unwrap().to_owned();
        // A list that depends on the time may change without an event.
        let by_time =
            self.variables["filter"]["ready"].is_boolean() || self.variables["filter"]["overdue"].is_boolean();
        let position = cursor::position;
        let is_newer = self.cursor.is_empty()
            || position(&now) > position(&self.cursor)
            || (by_time && position(&now) == position(&self.cursor));
        assert!(is_newer || item["kind"] == "SNAPSHOT", "{now} after {}", self.cursor);
        self.cursor = now;
        self.totals = json!({ "totalCount": item["totalCount"], "countsByStatus": item["countsByStatus"] });
        item
    }

    /// Reads items until the list and its totals are those of the query; returns the items.
    async fn until_current(&mut self, world: &World) -> Vec<Value> {
        let mut items = Vec::new();
        while !self.is_current(world).await {
            items.push(self.next().await);
        }
        items
    }

    async fn is_current(&self, world: &World) -> bool {
        let Noun { query, variables, arguments, nodes, totals, .. } = self.noun;
        let document = format!("query({variables}) {{ {query}({arguments}) {{ nodes {{ {nodes} }} {totals} }} }}");
        let answer = world.ask(&document, self.variables.clone()).await[*query].clone();
        let totals = json!({ "totalCount": answer["totalCount"], "countsByStatus": answer["countsByStatus"] });
        answer["nodes"] == json!(self.list) && totals == self.totals
    }

    fn ids(&self) -> Vec<&str> {
        self.list.iter().map(|node| node["id"].as_str().unwrap()).collect()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.messages.1.abort();
    }
}

/// Applies an item to a list as the description of `RunListChange` says.
fn apply(list: &mut Vec<Value>, item: &Value) {
    let nodes = item["nodes"].as_array().unwrap();
    if item["kind"] == "SNAPSHOT" {
        assert_eq!((&item["entered"], &item["left"]), (&json!([]), &json!([])));
        *list = nodes.clone();
        return;
    }
    assert_eq!(item["kind"], "CHANGED");
    list.retain(|row| !item["left"].as_array().unwrap().contains(&row["id"]));
    let place = |list: &[Value], id: &Value| list.iter().position(|row| row["id"] == *id);
    for entered in item["entered"].as_array().unwrap() {
        let row = place(list, &entered["node"]).map(|at| list.remove(at));
        let at = match &entered["after"] {
            Value::Null => 0,
            after => place(list, after).unwrap_or_else(|| panic!("no row {after} in {item:#}")) + 1,
        };
        list.insert(at, row.unwrap_or_else(|| json!({ "id": entered["node"] })));
    }
    for node in nodes {
        let at = place(list, &node["id"]).unwrap_or_else(|| panic!("no row {} in {item:#}", node["id"]));
        list[at] = node.clone();
    }
}

/// A running run of a campaign of calls.
async fn running(world: &World, plan: &crate::harness::plan::Plan) -> String {
    let run = world.launch(plan).await;
    world.until_run(&run, "IN_PROGRESS").await;
    run
}

/// True if one of these items has the id among those that left.
fn left(items: &[Value], id: &str) -> bool {
    items.iter().any(|item| item["left"].as_array().unwrap().contains(&json!(id)))
}

/// The places of an id among those that entered.
fn places(items: &[Value], id: &str) -> Vec<Value> {
    let entered = items.iter().flat_map(|item| item["entered"].as_array().unwrap().clone());
    entered.filter(|place| place["node"] == id).map(|place| place["after"].clone()).collect()
}

both! {
    async fn rows_enter_change_move_and_leave(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let (first, second) = (running(&world, &plan).await, running(&world, &plan).await);
        let filter = json!({ "statuses": ["IN_PROGRESS", "PAUSED"] });
        let order = json!({ "field": "STATUS", "direction": "ASC" });
        let mut client = Client::open(&world, &RUNS, json!({ "filter": filter, "orderBy": order, "first": 50 })).await;
        client.until_current(&world).await;
        assert_eq!(client.ids(), [first.as_str(), second.as_str()]);
        // It moves behind the other one, by order.
        world.act("pauseRun", "run", json!({ "id": first })).await;
        let items = client.until_current(&world).await;
        assert_eq!(client.ids(), [second.as_str(), first.as_str()]);
        assert!(!left(&items, &first) && client.list[1]["status"] == "PAUSED", "{items:#?}");
        // It leaves: its status does not match any more.
        world.act("cancelRun", "run", json!({ "id": second })).await;
        let items = client.until_current(&world).await;
        assert!(left(&items, &second), "{items:#?}");
        assert_eq!(client.ids(), [first.as_str()]);
        // One comes in, at the head.
        let third = running(&world, &plan).await;
        let items = client.until_current(&world).await;
        assert_eq!(client.ids(), [third.as_str(), first.as_str()]);
        assert_eq!(places(&items, &third).first(), Some(&json!(null)), "{items:#?}");
        world.end().await;
    }
}

both! {
    async fn a_full_window_pushes_rows_out(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let first = running(&world, &plan).await;
        // The newest ones, and without totals: those have no items of their own.
        static BARE: Noun = Noun { totals: "", ..RUNS };
        let mut newest = Client::open(&world, &BARE, json!({ "first": 1 })).await;
        let mut all = Client::open(&world, &RUNS, json!({ "first": 1 })).await;
        assert_eq!((newest.ids(), all.totals["totalCount"].clone()), (vec![first.as_str()], json!(1)));
        let second = running(&world, &plan).await;
        assert!(left(&newest.until_current(&world).await, &first));
        all.until_current(&world).await;
        assert_eq!((newest.ids(), all.ids(), &all.totals["totalCount"]), (vec![second.as_str()], vec![second.as_str()], &json!(2)));
        // A change outside of the window: an item with the new totals for those who select them, and
        // none for others.
        world.act("cancelRun", "run", json!({ "id": first })).await;
        let items = all.until_current(&world).await;
        assert!(!items.is_empty() && !left(&items, &second) && places(&items, &second).is_empty(), "{items:#?}");
        world.act("pauseRun", "run", json!({ "id": second })).await;
        let items = newest.until_current(&world).await;
        let is_empty = |item: &Value| ["nodes", "entered", "left"].iter().all(|part| item[part] == json!([]));
        assert!(newest.list[0]["status"] == "PAUSED" && !items.iter().any(is_empty), "{items:#?}");
        world.end().await;
    }
}

both! {
    async fn an_empty_list_and_one_that_others_do_not_touch(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let (ours, other) = (running(&world, &plan).await, running(&world, &plan).await);
        let empty = Client::open(&world, &RUNS, json!({ "filter": { "statuses": ["FAILED"] } })).await;
        assert!(empty.is_current(&world).await && empty.list.is_empty());
        assert_eq!((&empty.totals["totalCount"], empty.totals["countsByStatus"].as_array().unwrap().len()), (&json!(0), 7));
        let none = Client::open(&world, &RUNS, json!({ "first": 0 })).await;
        assert!(none.list.is_empty() && none.totals["totalCount"] == 2);
        let mut client = Client::open(&world, &RUNS, json!({ "filter": { "ids": [ours] } })).await;
        world.act("pauseRun", "run", json!({ "id": other })).await;
        world.create("record", json!({ "kind": "lead", "name": "Beside" })).await;
        world.act("pauseRun", "run", json!({ "id": ours })).await;
        for item in client.until_current(&world).await {
            assert_eq!((&item["nodes"][0]["id"], item["nodes"].as_array().unwrap().len()), (&json!(ours), 1), "{item:#}");
            assert_eq!((&item["entered"], &item["left"]), (&json!([]), &json!([])));
        }
        assert_eq!(client.list[0]["status"], "PAUSED");
        world.end().await;
    }
}

both! {
    async fn resumed_with_what_happened_meanwhile(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let first = running(&world, &plan).await;
        let mut client = Client::open(&world, &RUNS, json!({})).await;
        let start = client.cursor.clone();
        world.act("pauseRun", "run", json!({ "id": first })).await;
        let second = running(&world, &plan).await;
        for after in [client.cursor.clone(), start.clone()] {
            client.cursor = after;
            client.reconnect(&world).await;
            // The snapshot alone is as new as the query.
            assert!(client.is_current(&world).await, "{:#?}", client.list);
            assert_eq!(client.ids(), [second.as_str(), first.as_str()]);
        }
        // A cursor of a list's page, and one beyond the log's end.
        let page = world.ask("{ runs(first: 1) { pageInfo { endCursor } } }", json!({})).await["runs"]["pageInfo"]["endCursor"].clone();
        let beyond = json!(cursor::at(1_000_000));
        for (after, reason) in [(page, json!(null)), (beyond, json!("BEYOND_END"))] {
            let mut socket = Socket::open(world.address).await;
            socket.subscribe("list", "subscription($after: String) { runList(after: $after) { cursor } }", json!({ "after": after })).await;
            let message = socket.message().await;
            let extensions = &message["payload"][0]["extensions"];
            assert_eq!((&message["type"], &extensions["code"], &extensions["field"]), (&json!("error"), &json!("BAD_USER_INPUT"), &json!("after")), "{message:#}");
            assert_eq!(extensions["reason"], reason);
        }
        // Bad filters and pages are refused as by the query.
        for (arguments, field) in [("first: 501", "first"), ("first: -1", "first"), ("filter: { or: [] }", "filter.or"), ("filter: { ids: [\"x\"] }", "filter.ids")] {
            let mut socket = Socket::open(world.address).await;
            socket.subscribe("list", &format!("subscription {{ runList({arguments}) {{ cursor }} }}"), json!({})).await;
            let message = socket.message().await;
            assert_eq!((&message["type"], &message["payload"][0]["extensions"]["field"]), (&json!("error"), &json!(field)), "{message:#}");
        }
        world.end().await;
    }
}

both! {
    async fn equal_lists_share_one_execution(kind) {
        const CROWD: usize = 40;
        let world = World::new(kind).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let run = running(&world, &plan).await;
        let mut clients = Vec::new();
        for _ in 0..CROWD {
            clients.push(Client::open(&world, &RUNS, json!({ "first": 20 })).await);
        }
        // Events of the start may still be on their way to the lists.
        for client in &mut clients {
            client.until_current(&world).await;
        }
        let before = world.db.statements();
        world.act("pauseRun", "run", json!({ "id": run })).await;
        let mut told = Vec::new();
        for client in &mut clients {
            loop {
                let item = client.next().await;
                if item["nodes"][0]["status"] == "PAUSED" {
                    told.push(item);
                    break;
                }
            }
        }
        assert!(told.iter().all(|item| *item == told[0]), "{told:#?}");
        let cost = world.db.statements() - before;
        // Alone, each would read the window and the row, and both belong to a campaign that is read.
        assert!(cost < 3 * CROWD as u64, "{cost} statements for a change that {CROWD} hear of");
        // One that comes later begins with a snapshot, and hears the same from there on.
        let mut late = Client::open(&world, &RUNS, json!({ "first": 20 })).await;
        assert!(late.is_current(&world).await);
        world.act("resumeRun", "run", json!({ "id": run })).await;
        late.until_current(&world).await;
        for client in &mut clients {
            client.until_current(&world).await;
            assert_eq!(client.list, late.list);
        }
        world.end().await;
    }
}

both! {
    async fn rows_of_another_org_never_appear(kind) {
        let world = World::with_auth(kind).await;
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let theirs = crate::harness::key(&world.db, &other, Role::Admin, None).await;
        let ours = world.key(Role::Viewer).await;
        let mut sockets = Vec::new();
        for key in [&ours, &theirs] {
            let mut socket = Socket::open_as(world.address, key).await;
            assert_eq!(socket.message().await["type"], "connection_ack");
            socket.subscribe("list", "subscription { campaignList { kind nodes { name } totalCount } }", json!({})).await;
            assert_eq!(socket.next().await["campaignList"], json!({ "kind": "SNAPSHOT", "nodes": [], "totalCount": 0 }));
            sockets.push(socket);
        }
        let create = "mutation($name: String!) { createCampaign(input: { name: $name }) { campaign { id } } }";
        let (status, made) = world.post_as(&theirs, create, json!({ "name": "Theirs" })).await;
        assert!(status == 200 && made.get("errors").is_none(), "{made:#}");
        world.ask(create, json!({ "name": "Ours" })).await;
        for (socket, name) in sockets.iter_mut().zip(["Ours", "Theirs"]) {
            let expected = json!({ "kind": "CHANGED", "nodes": [{ "name": name }], "totalCount": 1 });
            assert_eq!(socket.next().await["campaignList"], expected);
        }
        world.end().await;
    }
}
