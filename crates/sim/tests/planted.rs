//! Every rule that is broken on purpose is caught, and a failing world can be made smaller.

use std::collections::BTreeMap;

use tertulia_group::planted::Bug;
use tertulia_sim::fleet::run_all;
use tertulia_sim::{Settings, run, shortest};

const SEEDS: u64 = 600;
/// Once a bug is caught in so many seeds, the next one is looked at.
const ENOUGH: u64 = 2;
const FAULTS_MS: u64 = 8_000;

/// Which promise was broken first, in how many seeds; and how many were run.
fn caught(bug: Bug) -> (BTreeMap<String, u64>, u64) {
    let mut by_promise = BTreeMap::new();
    for seed in 1..=SEEDS {
        if by_promise.values().sum::<u64>() == ENOUGH {
            return (by_promise, seed - 1);
        }
        if let Err(failure) = run(&Settings::new(seed, FAULTS_MS).busy().with(bug)) {
            let promise = failure.broken.split(':').next().unwrap_or_default().to_owned();
            *by_promise.entry(promise).or_default() += 1;
        }
    }
    (by_promise, SEEDS)
}

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    println!("| bug | caught | of seeds | broken promise |\n|---|---|---|---|");
    for bug in Bug::ALL {
        let (by_promise, of) = caught(bug);
        let seeds: u64 = by_promise.values().sum();
        let promises: Vec<String> =
            by_promise.iter().map(|(promise, seeds)| format!("{promise} {seeds}")).collect();
        println!("| {bug:?} | {seeds} | {of} | {} |", promises.join(", "));
        if seeds == 0 {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}

#[test]
fn a_failing_world_is_made_smaller_and_says_how_to_see_it_again() {
    let settings = Settings::new(1, FAULTS_MS).busy().with(Bug::AnswerEarly);
    let failure = run(&settings).expect_err("the bug is caught");
    let smaller = shortest(&settings, &failure);
    assert!(smaller.settings.faults_ms < FAULTS_MS / 4, "{smaller}");
    assert!(!smaller.settings.without.is_empty(), "{smaller}");
    let again = run(&smaller.settings).expect_err("it still is");
    assert_eq!(again.broken, smaller.failure.broken);
    assert!(smaller.to_string().contains("--planted answer-early"), "{smaller}");
}

#[test]
fn of_many_threads_the_lowest_failing_seed_is_told() {
    let lowest = |threads| {
        let settings = |seed| Settings::new(seed, FAULTS_MS).busy().with(Bug::SkipFence);
        let broken = run_all(1..100, threads, settings, |_| ()).expect_err("the bug is caught");
        (broken.settings.seed, broken.failure.broken)
    };
    assert_eq!(lowest(1), lowest(4));
}
