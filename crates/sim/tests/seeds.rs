//! A few short seeds keep every promise, and a seed is the same every time, on whatever thread.

use tertulia_sim::fleet::run_all;
use tertulia_sim::{Settings, run, shortest};

#[test]
fn short_seeds_keep_every_promise() {
    for seed in 1..=100 {
        for settings in [Settings::new(seed, 20_000), Settings::new(seed, 5_000).busy()] {
            if let Err(failure) = run(&settings) {
                panic!("{}", shortest(&settings, &failure));
            }
        }
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 77, 1234] {
        let settings = Settings::new(seed, 20_000);
        let [first, second] = [run(&settings), run(&settings)];
        assert_eq!(first.expect("it holds"), second.expect("it holds"));
    }
    let [one, other] = [1, 2].map(|seed| run(&Settings::new(seed, 5_000)).expect("it holds"));
    assert_ne!(one.hash, other.hash);
}

#[test]
fn what_comes_of_many_seeds_is_the_same_on_any_number_of_threads() {
    let on = |threads| {
        let settings = |seed| Settings::new(seed, 5_000);
        run_all(1..20, threads, settings, |_| ()).expect("every promise is kept")
    };
    let alone = on(1);
    assert_eq!(alone.seeds, 19);
    assert_eq!(alone, on(4));
}
