//! Faults of the node's disk: cut off, full, broken, frozen.

use std::time::Duration;

use anyhow::Result;
use rand::{Rng, RngCore};

use crate::place::Place;
use crate::place::fault::Undo;

/// How long the node may see that its disk is gone, before it is gone itself.
const SEES_MS_MAX: u64 = 200;

pub fn power_cut(place: &mut Place, rng: &mut dyn RngCore) -> Result<(String, Undo)> {
    let told = if rng.random() {
        // Everything ends at once: nobody sees a failing disk.
        place.ended = place.node.kill()?;
        place.disk.cut()?;
        "node and disk at once".to_owned()
    } else {
        let sees = rng.random_range(0..=SEES_MS_MAX);
        place.disk.cut()?;
        std::thread::sleep(Duration::from_millis(sees));
        place.ended = place.node.kill()?;
        format!("the disk, and {sees} ms later the node")
    };
    place.disk.mount_again()?;
    Ok((told, Undo::Nothing))
}

pub fn full_disk(place: &mut Place) -> Result<(String, Undo)> {
    let (filler, bytes) = place.disk.fill()?;
    Ok((format!("{} KiB were free", bytes >> 10), Undo::Free(filler)))
}

pub fn lost_writes(place: &mut Place) -> Result<(String, Undo)> {
    let bytes = place.disk.starve()?;
    Ok((format!("what goes to {} KiB of new blocks", bytes >> 10), Undo::MountAgain))
}

pub fn read_only(place: &mut Place) -> Result<(String, Undo)> {
    place.disk.break_file_system()?;
    Ok(("the file system found an error".to_owned(), Undo::MountAgain))
}

pub fn frozen(place: &mut Place) -> Result<(String, Undo)> {
    place.disk.set_frozen(true)?;
    Ok(("nothing is written".to_owned(), Undo::Thaw))
}
