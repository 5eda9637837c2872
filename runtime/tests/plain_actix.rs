//! Why this crate exists: what actix 0.13 alone does at a panic. If one of these ever fails, actix has changed, and the shell may
//! be simplified.

use std::sync::Arc;

use actix::{Actor, Context, Handler, Message, Supervised, Supervisor};
use parking_lot::Mutex;

struct Number(u32);
impl Message for Number {
    type Result = u32;
}

#[derive(Default)]
struct Plain {
    restarted: Arc<Mutex<u32>>,
}
impl Actor for Plain {
    type Context = Context<Self>;
}
impl Supervised for Plain {
    fn restarting(&mut self, _: &mut Self::Context) {
        *self.restarted.lock() += 1;
    }
}
impl Handler<Number> for Plain {
    type Result = u32;
    fn handle(&mut self, Number(number): Number, _: &mut Self::Context) -> u32 {
        assert_ne!(number, 4, "the fourth is poison");
        number
    }
}

#[test]
fn plain_actix_drops_the_queue_and_restarts_nothing_when_a_supervised_actor_panics() {
    actix_rt::System::new().block_on(async {
        let restarted = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&restarted);
        let address = Supervisor::start(move |_| Plain { restarted: seen });
        let replies = (1..=8).map(|number| address.send(Number(number)));
        let replies: Vec<Option<u32>> = futures::future::join_all(replies).await.into_iter().map(Result::ok).collect();
        assert_eq!(replies, [Some(1), Some(2), Some(3), None, None, None, None, None]);
        assert!(!address.connected());
        assert_eq!(*restarted.lock(), 0);
    });
}

#[test]
fn plain_actix_sends_do_not_wait_for_room() {
    actix_rt::System::new().block_on(async {
        let address = Plain::default().start(); // its mailbox holds 16
        let mut sends: Vec<_> = (10..1_010).map(|number| Box::pin(address.send(Number(number)))).collect();
        // One poll of each, without letting the actor run: a bounded mailbox would take 16 of them.
        for send in &mut sends {
            assert!(futures::poll!(send).is_pending());
        }
        tokio::task::yield_now().await; // now the actor runs, and finds all thousand
        for send in &mut sends {
            // Unconstrained, because tokio would end this task's turn after 128 replies.
            assert!(futures::poll!(tokio::task::unconstrained(send)).is_ready());
        }
    });
}
