//! Workers of a still world: some that claim and disappear, and some that do one batch.

use std::marker::PhantomData;

use entity::{run, step};
use sortie::engine::{begin, perform};
use sortie::kernel::db::{Tx, WriteContext};
use sortie::kernel::error::Result;
use sortie::step_kind::{Claimed, Outcome, Work};
use tokio::sync::Notify;

use super::{Way, World};

/// A worker that claims the due steps of a kind and never settles them.
struct EndOnDrop<W> {
    has_claimed: Notify,
    of: PhantomData<fn() -> W>,
}

impl<W: Work> Work for EndOnDrop<W> {
    type Outcome = W::Outcome;
    const KIND: &'static str = W::KIND;

    fn batch(&self) -> u64 {
        1_000
    }

    async fn perform(&self, _: &WriteContext, _: &[Claimed]) -> Result<Vec<Outcome<W::Outcome>>> {
        self.has_claimed.notify_one();
        std::future::pending().await
    }

    async fn record(&self, _: &Tx, _: &run::Model, _: &[(step::Model, &Outcome<W::Outcome>)]) -> Result<()> {
        Ok(())
    }
}

impl World {
    /// Claims all due steps of a kind by a worker that never settles them.
    pub async fn vanish_with<W: Work>(&self) {
        let Way::Still(still) = &self.way else { panic!("this world moves by itself") };
        let gone = EndOnDrop::<W> { has_claimed: Notify::new(), of: PhantomData };
        tokio::select! {
            done = perform::tick(&still.1, &gone) => panic!("there was nothing to claim: {done:?}"),
            () = gone.has_claimed.notified() => {}
        }
    }

    /// Executes all due steps of a kind and returns their number.
    pub async fn perform<W: Work>(&self, work: &W) -> usize {
        let mut count = 0;
        loop {
            match self.perform_once(work).await {
                0 => return count,
                some => count += some,
            }
        }
    }

    /// Executes one batch of a kind and returns the number of its steps.
    pub async fn perform_once<W: Work>(&self, work: &W) -> usize {
        let Way::Still(still) = &self.way else { panic!("this world moves by itself") };
        perform::tick(&still.1, work).await.unwrap()
    }

    /// Advances a still world by one tick of its runs and sweeps, without executing steps.
    pub async fn tick_once(&self) {
        let Way::Still(still) = &self.way else { panic!("this world moves by itself") };
        begin::tick(&still.1).await.unwrap();
    }
}
