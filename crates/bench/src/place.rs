//! Where files lie: what kind of file system a folder is on, and whether that is a disk.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// File systems by the number that the kernel has for each, and whether their files are in memory.
const KINDS: &[(u32, &str, bool)] = &[
    (0x0102_1994, "tmpfs", true),
    (0x8584_58f6, "ramfs", true),
    (0xef53, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683e, "btrfs", false),
    (0xf2f5_2010, "f2fs", false),
    (0x2fc1_2fc1, "zfs", false),
    (0x794c_7630, "overlayfs", false),
];

/// A folder, and what it is on.
#[derive(Clone, Debug)]
pub struct Place {
    pub folder: PathBuf,
    /// Such as `ext4`.
    pub kind: String,
    pub is_memory: bool,
}

impl Place {
    /// Asks the kernel.
    pub fn of(folder: &Path) -> Result<Self> {
        let told = rustix::fs::statfs(folder).with_context(|| folder.display().to_string())?;
        // The numbers have 32 bits; where the kernel's type has a sign, the upper half says nothing.
        let number = told.f_type as u32;
        let known = KINDS.iter().find(|(kind, ..)| *kind == number);
        let (kind, is_memory) = known.map_or_else(
            || (format!("file system {number:#x}"), false),
            |(_, kind, is_memory)| ((*kind).to_owned(), *is_memory),
        );
        Ok(Self { folder: folder.to_owned(), kind, is_memory })
    }

    /// The same, where what is synced has to be on a disk.
    pub fn on_disk(folder: &Path) -> Result<Self> {
        let place = Self::of(folder)?;
        ensure!(
            !place.is_memory,
            "{} is in memory ({}): a sync costs nothing there. Name a folder on a disk with --folder",
            folder.display(),
            place.kind
        );
        Ok(place)
    }

    /// As in headings: `in memory (tmpfs)`, `on the disk (ext4)`.
    pub fn about(&self) -> String {
        let what = if self.is_memory { "in memory" } else { "on the disk" };
        format!("{what} ({})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_in_memory_is_no_disk() {
        let memory = Path::new("/dev/shm");
        if !memory.is_dir() {
            return;
        }
        assert_eq!(Place::of(memory).expect("it is there").about(), "in memory (tmpfs)");
        let refused = Place::on_disk(memory).expect_err("it is in memory").to_string();
        assert!(refused.contains("--folder"), "{refused}");
        assert!(Place::of(Path::new("/proc")).is_ok_and(|place| place.kind.contains("0x")));
        assert!(Place::of(Path::new("/no such folder")).is_err());
    }
}
