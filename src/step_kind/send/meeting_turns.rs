//! Lets the messages of a batch about one meeting go one after the other, so that an invitation is
//! handed over before its cancellation. All others go at once.

use std::collections::HashMap;

use entity::id::MeetingId;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// The end of the last message about each meeting.
#[derive(Debug, Default)]
pub(super) struct MeetingTurns(HashMap<MeetingId, oneshot::Receiver<()>>);

impl MeetingTurns {
    /// The answer to a message that is handed over; it begins when the message about the same meeting
    /// before it is answered.
    pub(super) fn after_the_one_before<'a, A: Send + 'a>(
        &mut self,
        meeting: Option<MeetingId>,
        answer: BoxFuture<'a, A>,
    ) -> BoxFuture<'a, A> {
        let Some(meeting) = meeting else { return answer };
        let (done, ended) = oneshot::channel::<()>();
        let before = self.0.insert(meeting, ended);
        let turn = async move {
            if let Some(before) = before {
                // Ends with an error when the message before it is answered.
                let _ = before.await;
            }
            let answer = answer.await;
            drop(done);
            answer
        };
        turn.boxed()
    }
}
