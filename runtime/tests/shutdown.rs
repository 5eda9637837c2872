//! How a stage ends: drained in order, by its deadline, by a kill; and what it says was left.

mod common;

use std::time::Duration;

use common::{Batch, LONG, Lab, Record, virtual_time};
use karst_runtime::{ExitStatus, Host, Left, RestartPolicy, StageState, drain};

#[test]
fn a_graceful_stop_handles_all_that_was_sent_then_says_farewell_and_drops_the_stage() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        lab.send(&["1", "2~ 3", "4"]).await;
        lab.mailbox.control("x".into()).await.unwrap();
        assert_eq!(lab.handle.stop(LONG).await, ExitStatus::Drained);
        assert_eq!((lab.world.out(), lab.world.poison()), (vec![1, 3, 4], vec![2]));
        let lines = lab.world.lines();
        assert_eq!(lines[lines.len() - 2..], ["stopped", "dropped"], "nothing is open when stop returns");
        assert_eq!(lab.handle.health(Duration::ZERO).state, StageState::Stopped(ExitStatus::Drained));
    });
}

#[test]
fn a_stop_that_is_not_done_in_time_reports_what_was_left_and_says_no_farewell() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        lab.send(&["1", "2h 3", "4 5 6", "7"]).await;
        let left = Left { messages: 3, records: 6 };
        assert_eq!(lab.handle.stop(Duration::from_secs(5)).await, ExitStatus::Deadline { left });
        assert_eq!(lab.world.lines(), ["built", "out 1", "dropped"]);
    });
}

#[test]
fn a_stop_during_a_rest_waits_for_the_rebuild_and_drains() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        *lab.world.bad_builds.lock() = vec![true; 5];
        lab.send(&["1", "2"]).await;
        lab.until(|lab| lab.handle.restarts() == 2).await;
        assert_eq!(lab.handle.stop(LONG).await, ExitStatus::Drained);
        assert_eq!(lab.world.out(), [1, 2]);
    });
}

#[test]
fn a_stage_that_leaves_at_a_stop_what_waits_for_its_dependency_ends_at_once_and_says_what_it_was() {
    virtual_time(async {
        // One rests before it tries again, the other is in the middle of asking.
        for (text, cause) in [("1 2u", "no registry for 2"), ("1 2w", "no answer for 2")] {
            let lab = Lab::new(|spec| spec.leave_at_stop(true));
            lab.send(&["0", text, "3"]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let start = tokio::time::Instant::now();
            let left = Left { messages: 2, records: 3 };
            assert_eq!(lab.handle.stop(LONG).await, ExitStatus::Waiting { cause: cause.into(), left });
            assert_eq!(start.elapsed(), Duration::ZERO, "{text}");
            assert_eq!(lab.world.lines(), ["built", "out 0", "dropped"], "{text}");
        }
    });
}

#[test]
fn a_stage_that_leaves_at_a_stop_still_drains_when_nothing_is_away() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec.leave_at_stop(true));
        lab.send(&["1u", "2~ 3"]).await;
        lab.until(|lab| lab.world.out() == [1]).await;
        lab.send(&["4"]).await;
        assert_eq!(lab.handle.stop(LONG).await, ExitStatus::Drained);
        assert_eq!((lab.world.out(), lab.world.poison()), (vec![1, 3, 4], vec![2]));
    });
}

#[test]
fn a_later_stop_with_less_time_replaces_the_deadline() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        lab.send(&["1h"]).await;
        let start = tokio::time::Instant::now();
        let patient = lab.handle.clone();
        let (first, second) = tokio::join!(patient.stop(LONG), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            lab.handle.stop(Duration::from_secs(2)).await
        });
        assert_eq!(first, second);
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    });
}

#[test]
fn a_kill_ends_a_hanging_handler_at_once_without_draining() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec);
        lab.send(&["1h 2", "3"]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.handle.kill();
        assert_eq!(lab.handle.ended().await, ExitStatus::Killed { left: Left { messages: 2, records: 3 } });
        assert_eq!(lab.world.lines(), ["built", "dropped"]);
    });
}

#[test]
fn a_stage_that_was_given_up_cannot_drain_and_says_why() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec.restart(RestartPolicy { intensity: 0, ..common::patient() }));
        lab.send(&["1~ 2", "3"]).await;
        lab.until(|lab| matches!(lab.handle.health(Duration::ZERO).state, StageState::Failed { .. })).await;
        let left = Left { messages: 2, records: 3 };
        assert_eq!(lab.handle.stop(LONG).await, ExitStatus::Failed { cause: "async 1".into(), left });
    });
}

#[test]
fn a_stage_that_is_given_up_while_it_drains_ends() {
    virtual_time(async {
        let lab = Lab::new(|spec| spec.restart(RestartPolicy { intensity: 1, ..common::patient() }));
        lab.send(&["1~", "2"]).await;
        let left = Left { messages: 2, records: 2 };
        assert_eq!(lab.handle.stop(LONG).await, ExitStatus::Failed { cause: "async 1".into(), left });
    });
}

#[test]
fn stages_are_drained_in_the_order_given_within_one_deadline() {
    virtual_time(async {
        let labs = [Lab::new(|spec| spec), Lab::new(|spec| spec), Lab::new(|spec| spec)];
        for lab in &labs {
            lab.send(&["1", "2"]).await;
        }
        labs[1].send(&["3h"]).await;
        let handles: Vec<_> = labs.iter().map(|lab| lab.handle.clone()).collect();
        // The virtual clock stands still, so the last stage gets the full time as well; it needs none.
        let report = drain(&handles, Duration::from_secs(5), labs[0].clock.as_ref()).await;
        let statuses: Vec<_> = report.into_iter().map(|(_, status)| status).collect();
        let hung = ExitStatus::Deadline { left: Left { messages: 1, records: 1 } };
        assert_eq!(statuses, [ExitStatus::Drained, hung, ExitStatus::Drained]);
    });
}

#[test]
fn control_messages_that_were_accepted_before_the_end_are_handled_and_later_ones_are_refused() {
    for _ in 0..20 {
        let host = Host::new("racing").unwrap();
        let lab = Lab::on(&host, "probe", |spec| spec);
        let mailbox = lab.mailbox.clone();
        let sender =
            std::thread::spawn(move || (0..).take_while(|n: &u32| mailbox.blocking_control(n.to_string()).is_ok()).count());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while lab.world.all("control").len() < 50 {
            std::thread::yield_now();
        }
        assert_eq!(runtime.block_on(lab.handle.stop(LONG)), ExitStatus::Drained);
        assert_eq!(sender.join().unwrap(), lab.world.all("control").len());
    }
}

/// Threads send as fast as they can while the stage is stopped under them: what was accepted is handled, the rest is refused.
#[test]
fn a_message_that_was_accepted_is_handled_also_when_the_stop_races_it() {
    for _ in 0..20 {
        let host = Host::new("racing").unwrap(); // real time: a paused clock would jump to the deadline while others run
        let lab = Lab::on(&host, "probe", |spec| spec.capacity(4));
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let mailbox = lab.mailbox.clone();
                std::thread::spawn(move || {
                    (0..)
                        .take_while(|number| mailbox.blocking_send(Batch(vec![Record { number: *number, mark: None }])).is_ok())
                        .count()
                })
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        while lab.world.out().len() < 50 {
            std::thread::yield_now();
        }
        assert_eq!(runtime.block_on(lab.handle.stop(LONG)), ExitStatus::Drained);
        let accepted: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(lab.world.out().len(), accepted);
    }
}
