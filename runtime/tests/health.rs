//! The stuck are found by progress, not by death; who waits for another is not stuck.

mod common;

use std::{sync::Arc, time::Duration};

use common::{Batch, LONG, Lab, batch, virtual_time};
use karst_runtime::{Credits, ExitStatus, HealthBoard, Host, Stage, StageError, StageSpec, StageState, VirtualClock, spawn};
use karst_types::Clock;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A board with one probe, which never aborts by itself.
fn watched() -> (HealthBoard, Lab) {
    let board = HealthBoard::new();
    let lab = Lab::new(|spec| spec.board(&board).abort_stuck(false));
    (board, lab)
}

fn state(board: &HealthBoard, clock: &VirtualClock) -> StageState {
    board.snapshot(clock.elapsed()).remove(0).state
}

#[test]
fn a_handler_that_never_comes_back_is_stuck_after_thirty_seconds_and_not_before() {
    virtual_time(async {
        let (board, lab) = watched();
        lab.send(&["1h"]).await;
        tokio::time::sleep(secs(1)).await; // virtual: lets the stage take the message
        assert_eq!(board.check(lab.clock.elapsed()), []);
        lab.clock.advance(Duration::from_millis(29_999));
        assert_eq!(state(&board, &lab.clock), StageState::Running);
        lab.clock.advance(Duration::from_millis(1));
        assert_eq!(state(&board, &lab.clock), StageState::Stuck { since: Duration::ZERO });
        assert!(!state(&board, &lab.clock).is_healthy());
        assert_eq!(board.check(lab.clock.elapsed())[0].id, "probe");
    });
}

#[test]
fn an_idle_stage_is_never_stuck_and_work_that_comes_late_gets_its_full_time() {
    virtual_time(async {
        let (board, lab) = watched();
        lab.send(&["1"]).await;
        lab.until(|lab| lab.world.out() == [1]).await;
        board.check(lab.clock.elapsed());
        lab.clock.advance(secs(3_600)); // nobody looked for an hour
        lab.send(&["2h"]).await;
        tokio::time::sleep(secs(1)).await;
        assert_eq!(board.check(lab.clock.elapsed()), []);
        lab.clock.advance(secs(30));
        assert_eq!(state(&board, &lab.clock), StageState::Stuck { since: secs(3_600) });
    });
}

#[test]
fn an_aborted_batch_is_retried_and_the_record_that_hangs_again_is_put_aside() {
    virtual_time(async {
        let board = HealthBoard::new();
        let lab = Lab::new(|spec| spec.board(&board));
        lab.send(&["1 2h 3", "4"]).await;
        for _ in 0..70 {
            tokio::time::sleep(secs(1)).await;
            lab.clock.advance(secs(1));
            board.check(lab.clock.elapsed());
        }
        assert_eq!((lab.world.out(), lab.world.poison()), (vec![1, 3, 4], vec![2]));
        assert_eq!(lab.world.all("poison"), ["2: aborted: no progress"]);
        assert_eq!(lab.handle.restarts(), 2);
        assert_eq!(lab.handle.stop(LONG).await, ExitStatus::Drained);
    });
}

#[test]
fn a_stage_that_waits_for_its_dependency_says_so_and_is_not_stuck() {
    virtual_time(async {
        let board = HealthBoard::new();
        let slow = karst_runtime::Backoff { initial: secs(600), max: secs(600), jitter: 0.0 };
        let lab =
            Lab::new(|spec| spec.board(&board).restart(karst_runtime::RestartPolicy { backoff: slow, ..common::patient() }));
        lab.send(&["1u", "2"]).await;
        for _ in 0..100 {
            tokio::time::sleep(secs(1)).await;
            lab.clock.advance(secs(1));
            assert_eq!(board.check(lab.clock.elapsed()), []);
        }
        assert_eq!(state(&board, &lab.clock), StageState::Waiting { cause: "no registry for 1".into() });
        assert_eq!(lab.mailbox.depth(), 1, "what is behind the message rests in the lane");
        lab.handle.revive(); // "try now": twice, since it fails twice
        tokio::time::sleep(secs(1)).await;
        lab.handle.revive();
        tokio::time::sleep(secs(1)).await;
        assert_eq!((lab.world.out(), state(&board, &lab.clock)), (vec![1, 2], StageState::Running));
    });
}

#[test]
fn a_hanging_handler_can_be_aborted_by_hand() {
    virtual_time(async {
        let (_, lab) = watched();
        lab.send(&["1h", "2"]).await;
        for restarts in 1..=2 {
            tokio::time::sleep(secs(1)).await;
            lab.handle.abort_current();
            lab.until(|lab| lab.handle.restarts() == restarts).await;
        }
        lab.until(|lab| lab.world.out() == [2]).await;
        assert_eq!(lab.world.poison(), [1]);
    });
}

struct Slow {
    credits: Credits,
    steps: u32,
    asks: Option<Duration>,
}

impl Stage for Slow {
    type Message = Batch;
    type Control = ();
    async fn handle(&mut self, _: &mut Batch) -> Result<(), StageError> {
        for _ in 0..self.steps {
            tokio::time::sleep(secs(20)).await;
            karst_runtime::progress();
        }
        if let Some(answer_after) = self.asks {
            karst_runtime::waiting_for("commit writer", tokio::time::sleep(answer_after)).await;
        }
        drop(self.credits.acquire().await);
        Ok(())
    }
    async fn control(&mut self, (): ()) -> Result<(), StageError> {
        Ok(())
    }
    async fn poison(&mut self, _: &mut Batch, _: &str) -> Result<(), StageError> {
        Ok(())
    }
}

#[test]
fn a_stage_that_waits_for_a_credit_is_blocked_and_never_stuck_or_aborted() {
    virtual_time(async {
        let (board, clock) = (HealthBoard::new(), Arc::new(VirtualClock::default()));
        let credits = Credits::new("flights[0] credits", 1);
        let held = credits.acquire().await;
        let spec = StageSpec::new("slow", "slow", clock.clone()).board(&board);
        let purse = credits.clone();
        let (mailbox, handle) =
            spawn(&Host::current().unwrap(), spec, move || Ok(Slow { credits: purse.clone(), steps: 0, asks: None }));
        mailbox.send(batch("1")).await.unwrap();
        for _ in 0..100 {
            tokio::time::sleep(secs(1)).await;
            clock.advance(secs(1));
            assert_eq!(board.check(clock.elapsed()), []);
        }
        let blocked = StageState::Blocked { on: "flights[0] credits".into() };
        assert_eq!(state(&board, &clock), blocked);
        drop(held);
        assert_eq!(handle.stop(LONG).await, ExitStatus::Drained);
        assert_eq!(handle.restarts(), 0);
    });
}

#[test]
fn a_stage_that_waits_for_an_answer_says_whose_and_is_never_stuck() {
    virtual_time(async {
        let (board, clock) = (HealthBoard::new(), Arc::new(VirtualClock::default()));
        let spec = StageSpec::new("slow", "slow", clock.clone()).board(&board);
        let (mailbox, handle) = spawn(&Host::current().unwrap(), spec, move || {
            Ok(Slow { credits: Credits::new("credits", 1), steps: 0, asks: Some(secs(100)) })
        });
        mailbox.send(batch("1")).await.unwrap();
        for _ in 0..90 {
            tokio::time::sleep(secs(1)).await;
            clock.advance(secs(1));
            assert_eq!(board.check(clock.elapsed()), []);
        }
        assert_eq!(state(&board, &clock), StageState::Blocked { on: "commit writer".into() });
        assert_eq!(handle.stop(LONG).await, ExitStatus::Drained);
    });
}

#[test]
fn a_long_step_that_shows_progress_is_not_stuck() {
    virtual_time(async {
        let (board, clock) = (HealthBoard::new(), Arc::new(VirtualClock::default()));
        let spec = StageSpec::new("slow", "slow", clock.clone()).board(&board);
        let (mailbox, handle) = spawn(&Host::current().unwrap(), spec, move || {
            Ok(Slow { credits: Credits::new("credits", 1), steps: 10, asks: None })
        });
        mailbox.send(batch("1")).await.unwrap();
        for _ in 0..210 {
            tokio::time::sleep(secs(1)).await;
            clock.advance(secs(1));
            assert_eq!(board.check(clock.elapsed()), []);
        }
        assert_eq!(handle.health(clock.elapsed()).handled, 1);
    });
}

/// The thread itself is blocked: the heartbeat still finds it, because it is judged from outside.
#[test]
fn a_handler_that_blocks_its_thread_is_found_as_well() {
    struct Block(Arc<std::sync::Barrier>);
    impl Stage for Block {
        type Message = Batch;
        type Control = ();
        async fn handle(&mut self, _: &mut Batch) -> Result<(), StageError> {
            self.0.wait(); // the handler has begun
            self.0.wait(); // the test lets go
            Ok(())
        }
        async fn control(&mut self, (): ()) -> Result<(), StageError> {
            Ok(())
        }
        async fn poison(&mut self, _: &mut Batch, _: &str) -> Result<(), StageError> {
            Ok(())
        }
    }
    let host = Host::new("blocked").unwrap();
    let (board, clock, barrier) = (HealthBoard::new(), Arc::new(VirtualClock::default()), Arc::new(std::sync::Barrier::new(2)));
    let spec = StageSpec::new("block", "block", clock.clone()).board(&board).abort_stuck(false);
    let gate = Arc::clone(&barrier);
    let (mailbox, handle) = spawn(&host, spec, move || Ok(Block(Arc::clone(&gate))));
    let neighbour = Lab::on(&host, "neighbour", |spec| spec.board(&board));
    mailbox.try_send(batch("1")).unwrap();
    barrier.wait();
    neighbour.mailbox.try_send(batch("2")).unwrap();
    assert_eq!(board.check(clock.elapsed()), []);
    clock.advance(secs(30));
    neighbour.clock.advance(secs(30));
    let stuck: Vec<String> = board.check(clock.elapsed()).into_iter().map(|stage| stage.id).collect();
    assert!(stuck.contains(&"block".to_owned()), "{stuck:?}");
    let waiting = common::paused().unwrap(); // the answer is waited for in virtual time
    assert_eq!(waiting.block_on(handle.stop(secs(5))), ExitStatus::Unresponsive);
    barrier.wait();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(runtime.block_on(handle.stop(LONG)), ExitStatus::Drained);
    assert_eq!(runtime.block_on(neighbour.handle.stop(LONG)), ExitStatus::Drained);
    assert_eq!(neighbour.world.out(), [2]);
}

#[test]
fn the_board_tells_depth_restarts_cause_and_where_each_stage_runs() {
    virtual_time(async {
        let board = HealthBoard::new();
        let first = Lab::on(&Host::current().unwrap(), "first", |spec| spec.board(&board));
        let second = Lab::on(&Host::current().unwrap(), "second", |spec| spec.board(&board).abort_stuck(false));
        first.send(&["1?", "2~"]).await;
        second.send(&["1h", "2", "3"]).await;
        first.until(|lab| lab.world.poison() == [2]).await;
        let seen = board.snapshot(Duration::ZERO);
        let told: Vec<_> = seen
            .iter()
            .map(|stage| (stage.id.as_str(), stage.depth, stage.capacity, stage.handled, stage.poisoned, stage.restarts))
            .collect();
        assert_eq!(told, [("first", 0, 16, 2, 1, 3), ("second", 2, 16, 0, 0, 0)]);
        assert_eq!((seen[0].last_cause.as_deref(), seen[1].last_cause.as_deref()), (Some("async 2"), None));
        assert!(seen.iter().all(|stage| stage.name == "probe" && !stage.host.is_empty()));
    });
}
