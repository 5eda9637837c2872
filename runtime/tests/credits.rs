//! Credits bound what is in flight, and always come back.

mod common;

use common::virtual_time;
use futures::poll;
use karst_runtime::{Budget, Credits};

#[test]
fn the_credit_after_the_last_waits_until_one_comes_back() {
    virtual_time(async {
        let credits = Credits::new("credits", 2);
        let (first, _second) = (credits.acquire().await, credits.acquire().await);
        let mut third = Box::pin(credits.acquire());
        assert!(poll!(&mut third).is_pending());
        assert_eq!((credits.available(), credits.total()), (0, 2));
        drop(first);
        assert!(poll!(&mut third).is_ready());
    });
}

#[test]
fn a_credit_shared_by_the_parts_of_a_batch_comes_back_with_the_last_part() {
    let credits = Credits::new("credits", 1);
    let whole = credits.try_acquire().unwrap();
    let parts = vec![whole.clone(), whole.clone()];
    drop(whole);
    assert_eq!(credits.available(), 0);
    let threads: Vec<_> = parts.into_iter().map(|part| std::thread::spawn(move || drop(part))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(credits.available(), 1);
}

#[test]
fn a_panic_that_unwinds_over_a_credit_gives_it_back() {
    let credits = Credits::new("credits", 1);
    let credit = credits.try_acquire().unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = credit;
        panic!("with the credit in hand");
    }));
    assert!(caught.is_err());
    assert_eq!(credits.available(), 1);
}

#[test]
fn a_cancelled_wait_takes_no_credit_with_it_and_the_next_in_line_gets_it() {
    virtual_time(async {
        let credits = Credits::new("credits", 1);
        let held = credits.acquire().await;
        let mut impatient = Box::pin(credits.acquire());
        let mut patient = Box::pin(credits.acquire());
        assert!(poll!(&mut impatient).is_pending() && poll!(&mut patient).is_pending());
        drop(impatient);
        drop(held);
        assert!(credits.try_acquire().is_none(), "who waits comes first");
        assert!(poll!(&mut patient).is_ready());
        assert_eq!(credits.available(), 1, "the credit of the finished wait was dropped with it");
    });
}

#[test]
fn bytes_come_back_with_the_last_part_of_a_batch_and_more_than_there_are_is_all_of_them() {
    virtual_time(async {
        let (budget, credits) = (Budget::new("bytes", 10 << 10), Credits::new("credits", 8));
        let small = credits.acquire().await.with(budget.take(3 << 10).await);
        let part = small.clone();
        let mut large = Box::pin(budget.take(1 << 30));
        assert!(poll!(&mut large).is_pending(), "it waits until nothing else is there");
        let mut next = Box::pin(budget.take(1));
        assert!(poll!(&mut next).is_pending(), "first come, first served");
        drop(small);
        assert!(poll!(&mut large).is_pending());
        drop(part);
        let large = large.await;
        assert_eq!(budget.available(), 0);
        drop(large);
        drop(next.await);
        assert_eq!((budget.available(), credits.available()), (10 << 10, 8));
    });
}
