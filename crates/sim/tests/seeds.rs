//! A few hundred short seeds keep every promise, and a seed is the same every time.

use tertulia_sim::{Settings, run, shortest};

#[test]
fn short_seeds_keep_every_promise() {
    for seed in 1..=150 {
        let settings = Settings::new(seed, 30_000);
        if let Err(failure) = run(&settings) {
            panic!("{}", shortest(&settings, &failure));
        }
    }
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [3, 77, 1234] {
        let settings = Settings::new(seed, 10_000);
        let [first, second] = [run(&settings), run(&settings)];
        assert_eq!(first.expect("it holds"), second.expect("it holds"));
    }
    let [one, other] = [1, 2].map(|seed| run(&Settings::new(seed, 5_000)).expect("it holds"));
    assert_ne!(one.hash, other.hash);
}
