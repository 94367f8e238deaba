//! Group commit under a scheduler that tries thousands of orders of its steps.
//!
//! A binary of its own, because in it `tokio` is shuttle's: every operation on a channel, semaphore or
//! lock is a step at which another task may go on. What is checked is the product's own file.
//! `INTERLEAVINGS=100000` tries so many orders per test and scheduler. A failure prints its schedule;
//! with it in `SCHEDULE`, the test that failed runs that one again.

#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

extern crate shuttle_tokio as tokio;

mod disk;
#[path = "../../src/sqlite/write/group_commit.rs"]
mod group_commit;
mod world;

use disk::Fate;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};
use world::World;

/// Orders tried per test and scheduler, if the environment does not say: ten thousand in all.
const INTERLEAVINGS: usize = 1250;

/// Changes of priority within one order: few are enough for most bugs ("A Randomized Scheduler with
/// Probabilistic Guarantees of Finding Bugs", Burckhardt et al., 2010).
const PCT_DEPTH: usize = 3;

/// Always the same orders; more of them begin with the same.
const SEED: u64 = 1;

const ANY_FAILURE: &[Fate] =
    &[Fate::Stored, Fate::Stored, Fate::Busy, Fate::Unavailable, Fate::UnknownStored, Fate::UnknownLost];

fn explore(test: fn()) {
    if let Ok(schedule) = std::env::var("SCHEDULE") {
        return shuttle::replay(test, &schedule);
    }
    let n = std::env::var("INTERLEAVINGS").map_or(INTERLEAVINGS, |n| n.parse().unwrap());
    run(RandomScheduler::new_from_seed(SEED, n), test);
    run(PctScheduler::new_from_seed(SEED, PCT_DEPTH, n), test);
}

fn run(scheduler: impl Scheduler + 'static, test: fn()) {
    let mut config = Config::new();
    // A panic is formatted there, too.
    config.stack_size = 256 << 10;
    // The longest take some thousand; one that goes on has run into a circle.
    config.max_steps = MaxSteps::FailAfter(100_000);
    Runner::new(scheduler, config).run(test);
}

#[test]
fn each_call_is_answered_by_what_became_of_it() {
    explore(|| {
        World::new(ANY_FAILURE).run(|world| {
            world.callers();
            world.order();
            world.probes();
        });
    });
}

#[test]
fn who_hangs_up_or_runs_out_of_patience_leaves_a_whole_delivery_or_none() {
    explore(|| {
        World::new(ANY_FAILURE).run(|world| {
            world.callers();
            world.order();
            world.hang_up_some();
            world.run_out_of_patience();
            world.probes();
        });
    });
}

#[test]
fn what_was_accepted_before_the_close_is_committed_and_answered() {
    explore(|| {
        World::new(ANY_FAILURE).run(|world| {
            world.callers();
            world.order();
            world.hang_up_some();
            world.probes();
            world.close();
            world.close();
        });
    });
}

#[test]
fn when_the_writer_panics_nobody_waits_for_it() {
    explore(|| {
        World::new(&[Fate::Stored, Fate::Unavailable, Fate::Panic]).run(|world| {
            world.callers();
            world.order();
            world.probes();
            world.close();
        });
    });
}
