//! A worker that was cut off for longer than its lease sends nothing that another has taken over.

use std::sync::Arc;

use chrono::Duration;
use entity::{run, step};
use sea_orm::ConnectionTrait;
use serde_json::json;
use sortie::channel::Mail;
use sortie::kernel::db::{Db, Tx, WriteContext};
use sortie::kernel::error::Result;
use sortie::step_kind::send::Send;
use sortie::step_kind::{Claimed, Outcome, Work};

use crate::harness::sink::Sink;
use crate::harness::{World, config, noon};

/// Another process takes the claimed steps over.
const TAKEN: &str = "UPDATE step SET attempt_count = attempt_count + 1, lease_owner = 'another', lease_expires_at = '2026-11-02T12:05:00+00:00' \
    WHERE status = 'IN_PROGRESS'";

/// The other process reserves the messages.
const RESERVED: &str = "UPDATE communication SET status = 'SENDING' WHERE status = 'APPROVED'";

/// Sends, after statements were executed between the claim and the hand-over.
struct LateSend {
    send: Send,
    db: Arc<Db>,
    meanwhile: Vec<&'static str>,
}

impl Work for LateSend {
    type Outcome = <Send as Work>::Outcome;
    const KIND: &'static str = Send::KIND;

    fn batch(&self) -> u64 {
        100
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<Self::Outcome>>> {
        for sql in &self.meanwhile {
            let tx = self.db.write().begin().await?;
            tx.db().execute_unprepared(sql).await?;
            self.db.write().end(tx, Ok(()), &mut 0).await.unwrap()?;
        }
        self.send.perform(db, claimed).await
    }

    async fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> Result<()> {
        self.send.record(tx, run, settled).await
    }
}

both! {
    async fn a_worker_whose_lease_was_taken_over_sends_nothing(kind) {
        for is_reserved in [false, true] {
            let sink = Sink::start().await;
            let world = World::without_server(kind, Some(sink.url())).await;
            let plan = world.plan("EMAIL", 3).await;
            world.activate(&plan).await;
            let run = world.launch(&plan).await;
            world.tick(true).await;
            let review = world.until_review(&run).await;
            world.act("approveStep", "step", json!({ "id": review })).await;
            world.tick(false).await;
            let mail = Mail::configured(&config(&world.folder, "", Some(sink.url()))).await.unwrap();
            let meanwhile = if is_reserved { vec![TAKEN, RESERVED] } else { vec![TAKEN] };
            let late = LateSend { send: Send { mail: Arc::new(mail) }, db: world.db.clone(), meanwhile };
            assert_eq!(world.perform_once(&late).await, 3);
            assert!(sink.kept().is_empty(), "mails were sent under a lost lease");
            let leases = world.sql("SELECT status, lease_owner FROM step WHERE lease_owner IS NOT NULL").await;
            assert_eq!(leases, vec![["IN_PROGRESS", "another"]; 3], "its settle changes nothing");
            // The other process ends, too: what it may have sent is never sent by itself again.
            world.clock.set(noon() + Duration::minutes(6));
            world.rescue().await;
            world.tick(true).await;
            let statuses = world.sql("SELECT DISTINCT status FROM communication").await;
            if is_reserved {
                assert_eq!((statuses, sink.kept().len()), (vec![vec!["UNKNOWN".to_owned()]], 0));
            } else {
                assert_eq!((statuses, sink.kept().len()), (vec![vec!["SENT".to_owned()]], 3));
            }
            world.drop_unchecked().await;
        }
    }
}
