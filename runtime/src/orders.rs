//! Orders to a supervisor: stop, kill, abort, revive. They overtake both lanes and are never queued: the newest state counts.

use std::{pin::Pin, time::Duration};

use tokio::{sync::watch, time::Sleep};

/// What has been ordered so far. Counters, because an order given twice before it is seen is one order.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Orders {
    /// Drain and end within this time.
    pub(crate) stop: Option<Duration>,
    pub(crate) kill: bool,
    pub(crate) aborts: u64,
    pub(crate) revives: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// End now.
    Kill,
    /// Take no more data, finish what is there, end.
    Stop,
    /// The time for [`Order::Stop`] is over.
    Deadline,
    /// Drop the future under work.
    Abort,
    /// Forget the failures and try again.
    Revive,
}

/// The supervisor's end: which orders it has seen, and the deadline that runs.
pub(crate) struct Desk {
    orders: watch::Receiver<Orders>,
    seen: Orders,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Desk {
    pub(crate) fn new(orders: watch::Receiver<Orders>) -> Self {
        Self { orders, seen: Orders::default(), deadline: None }
    }

    /// Whether a stop has been ordered and seen.
    pub(crate) fn draining(&self) -> bool {
        self.seen.stop.is_some()
    }

    /// An order that has not been seen yet.
    pub(crate) fn take(&mut self) -> Option<Order> {
        let orders = *self.orders.borrow_and_update();
        if orders.kill {
            return Some(Order::Kill);
        }
        if orders.stop != self.seen.stop {
            self.seen.stop = orders.stop;
            self.deadline = orders.stop.map(|within| Box::pin(tokio::time::sleep(within)));
            return Some(Order::Stop);
        }
        if orders.aborts != self.seen.aborts {
            self.seen.aborts = orders.aborts;
            return Some(Order::Abort);
        }
        if orders.revives != self.seen.revives {
            self.seen.revives = orders.revives;
            return Some(Order::Revive);
        }
        None
    }

    /// Waits for the next order. Cancel safe.
    pub(crate) async fn next(&mut self) -> Order {
        loop {
            if let Some(order) = self.take() {
                return order;
            }
            let past_deadline = async {
                match &mut self.deadline {
                    Some(deadline) => deadline.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = past_deadline => return Order::Deadline,
                changed = self.orders.changed() => if changed.is_err() {
                    // Cannot happen while the supervisor holds the vitals, which hold the sender; waiting is the safe answer.
                    std::future::pending::<()>().await;
                },
            }
        }
    }
}
