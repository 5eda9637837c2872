//! The mailbox: bounded, ordered, with a control lane that overtakes.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Batch, LONG, Lab, Record, batch, patient, paused, virtual_time};
use futures::poll;
use karst_runtime::{Closed, ExitStatus, Host, StageState, TrySendError, mailbox, spawn_on};

#[test]
fn the_send_after_the_last_place_waits_until_one_is_free() {
    virtual_time(async {
        let (mailbox, inbox) = mailbox::<Batch, String>("probe", 2);
        mailbox.send(batch("1")).await.unwrap();
        mailbox.send(batch("2")).await.unwrap();
        assert!(matches!(mailbox.try_send(batch("3")), Err(TrySendError::Full(back)) if back == batch("3")));
        let mut third = Box::pin(mailbox.send(batch("3")));
        assert!(poll!(&mut third).is_pending());
        assert_eq!((mailbox.depth(), mailbox.capacity()), (2, 2));

        let world = Arc::<common::World>::default();
        let seen = Arc::clone(&world);
        let spec = karst_runtime::StageSpec::new("probe", "probe", Arc::new(karst_runtime::VirtualClock::default()));
        let handle = spawn_on(&Host::current().unwrap(), inbox, spec, move || common::Probe::build(&seen));
        third.await.unwrap();
        handle.stop(LONG).await;
        assert_eq!((world.out(), mailbox.depth()), (vec![1, 2, 3], 0));
    });
}

#[test]
fn threads_that_race_for_room_fill_the_capacity_exactly() {
    let (mailbox, _inbox) = mailbox::<Batch, String>("probe", 3);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let mailbox = mailbox.clone();
            std::thread::spawn(move || (0..100).filter(|_| mailbox.try_send(batch("1")).is_ok()).count())
        })
        .collect();
    let accepted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!((accepted, mailbox.depth()), (3, 3));
}

#[test]
fn the_control_lane_is_bounded_too_and_overtakes_the_data_lane() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        // Nothing has run yet: stages start at the first await that waits.
        for number in 0..4 {
            lab.mailbox.try_send(batch(&number.to_string())).unwrap();
        }
        for number in 0..64 {
            lab.mailbox.try_control(number.to_string()).unwrap();
        }
        assert!(matches!(lab.mailbox.try_control("64".into()), Err(TrySendError::Full(back)) if back == "64"));
        lab.handle.stop(LONG).await;
        let lines = lab.world.lines();
        let first_data = lines.iter().position(|line| line.starts_with("out")).unwrap();
        assert_eq!(lab.world.all("control").len(), 64);
        assert_eq!(first_data, 65, "after 'built' and all control: {lines:?}");
        assert_eq!(lab.world.out(), [0, 1, 2, 3]);
    });
}

#[test]
fn control_goes_between_two_batches_of_a_long_queue() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        for number in 0..10 {
            lab.mailbox.try_send(batch(&number.to_string())).unwrap();
        }
        lab.until(|lab| !lab.world.out().is_empty()).await;
        let before = lab.world.out().len();
        lab.mailbox.try_control("revoke".into()).unwrap();
        lab.handle.stop(LONG).await;
        let lines = lab.world.lines();
        let control = lines.iter().position(|line| line == "control revoke").unwrap();
        let overtaken = lines[control..].iter().filter(|line| line.starts_with("out")).count();
        assert!(before + overtaken >= 9, "at most the batch under work was not overtaken: {lines:?}");
    });
}

#[test]
fn a_send_that_is_dropped_while_it_waits_has_sent_nothing() {
    virtual_time(async {
        let (mailbox, inbox) = mailbox::<Batch, String>("probe", 1);
        mailbox.send(batch("1")).await.unwrap();
        let mut dropped = Box::pin(mailbox.send(batch("2")));
        let mut next = Box::pin(mailbox.send(batch("3")));
        assert!(poll!(&mut dropped).is_pending() && poll!(&mut next).is_pending());
        drop(dropped);

        let world = Arc::<common::World>::default();
        let seen = Arc::clone(&world);
        let spec = karst_runtime::StageSpec::new("probe", "probe", Arc::new(karst_runtime::VirtualClock::default()));
        let handle = spawn_on(&Host::current().unwrap(), inbox, spec, move || common::Probe::build(&seen));
        next.await.unwrap();
        handle.stop(LONG).await;
        assert_eq!(world.out(), [1, 3]);
    });
}

#[test]
fn senders_that_wait_are_served_in_the_order_in_which_they_came() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec.capacity(1));
        let sends = (0..50).map(|number| lab.mailbox.send(Batch(vec![Record { number, mark: None }])));
        futures::future::join_all(sends).await;
        lab.handle.stop(LONG).await;
        assert_eq!(lab.world.out(), (0..50).collect::<Vec<_>>());
    });
}

/// Eight plain threads and a stage on a ninth, which panics now and then.
#[test]
fn each_senders_order_is_kept_from_many_threads_and_over_restarts() {
    const SENDERS: u32 = 8;
    const EACH: u32 = 200;
    let host = Host::with_runtime("receiver", paused).unwrap();
    let lab = Lab::on(&host, "probe", |spec| spec.capacity(3));
    let threads: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let mailbox = lab.mailbox.clone();
            std::thread::spawn(move || {
                for turn in 0..EACH {
                    let mark = (turn % 50 == 7).then_some('?');
                    mailbox.blocking_send(Batch(vec![Record { number: sender * EACH + turn, mark }])).unwrap();
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(lab.handle.stop(LONG)), ExitStatus::Drained);
    let out = lab.world.out();
    for sender in 0..SENDERS {
        let own: Vec<u32> = out.iter().copied().filter(|number| number / EACH == sender).collect();
        assert_eq!(own, (sender * EACH..(sender + 1) * EACH).collect::<Vec<_>>());
    }
    assert_eq!(lab.handle.restarts(), u64::from(SENDERS * 4));
}

#[test]
fn a_stage_on_one_arbiter_waits_for_room_in_a_stage_on_another() {
    struct Forward(karst_runtime::Mailbox<Batch, String>);
    impl karst_runtime::Stage for Forward {
        type Message = Batch;
        type Control = ();
        async fn handle(&mut self, batch: &mut Batch) -> Result<(), karst_runtime::StageError> {
            self.0.send(batch.clone()).await.map_err(|closed| karst_runtime::StageError::broken("downstream").because(closed))
        }
        async fn control(&mut self, (): ()) -> Result<(), karst_runtime::StageError> {
            Ok(())
        }
        async fn poison(&mut self, _: &mut Batch, _: &str) -> Result<(), karst_runtime::StageError> {
            Ok(())
        }
    }
    let (upstream, downstream) = (Host::new("upstream").unwrap(), Host::with_runtime("downstream", paused).unwrap());
    let last = Lab::on(&downstream, "last", |spec| spec.capacity(1));
    let spec = karst_runtime::StageSpec::new("forward", "forward", Arc::new(karst_runtime::SystemClock)).capacity(1);
    let to = last.mailbox.clone();
    let (first, handle) = karst_runtime::spawn(&upstream, spec.restart(patient()), move || Ok(Forward(to.clone())));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for number in 0..500 {
            first.send(Batch(vec![Record { number, mark: (number == 250).then_some('~') }])).await.unwrap();
        }
        let report = karst_runtime::drain(&[handle, last.handle.clone()], LONG, &karst_runtime::SystemClock).await;
        assert_eq!(report, [("forward".to_owned(), ExitStatus::Drained), ("last".to_owned(), ExitStatus::Drained)]);
    });
    assert_eq!(last.world.out(), (0..500).filter(|number| *number != 250).collect::<Vec<_>>());
}

#[test]
fn a_mailbox_whose_stage_has_ended_is_closed_and_hands_messages_back() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        lab.handle.stop(LONG).await;
        assert!(lab.mailbox.is_closed());
        assert_eq!(lab.mailbox.send(batch("1")).await, Err(Closed));
        assert!(matches!(lab.mailbox.try_send(batch("1")), Err(TrySendError::Closed(_))));
        assert_eq!(lab.mailbox.control("x".into()).await, Err(Closed));
    });
}

#[test]
fn a_stage_does_not_end_because_its_senders_are_gone() {
    virtual_time(async {
        let Lab { world, mailbox, handle, .. } = Lab::new(|spec| spec);
        mailbox.send(batch("1")).await.unwrap();
        drop(mailbox);
        tokio::time::sleep(LONG).await;
        assert_eq!((world.out(), handle.health(Duration::ZERO).state), (vec![1], StageState::Running));
        assert_eq!(handle.stop(LONG).await, ExitStatus::Drained);
    });
}
