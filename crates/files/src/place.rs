//! What of putting a file in its place differs between systems: renaming without overwriting, syncing, free bytes.

use std::io;

use cap_std::fs::Dir;

/// Opening what is no plain file does not wait.
#[cfg(unix)]
pub const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// Renames a file; with `replace` whatever has the new name goes, otherwise it stays ([`io::ErrorKind::AlreadyExists`]).
pub fn rename(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str, replace: bool) -> io::Result<()> {
    if replace {
        return from_dir.rename(from, to_dir, to);
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            renamed => return renamed.map_err(io::Error::from),
        }
    }
    from_dir.hard_link(from, to_dir, to)?;
    from_dir.remove_file(from)
}

/// Renames a folder; whatever has the new name stays ([`io::ErrorKind::AlreadyExists`]).
pub fn rename_folder(from_dir: &Dir, from: &str, to_dir: &Dir, to: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE) {
            // A file system that does not know the flag.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {}
            renamed => return renamed.map_err(io::Error::from),
        }
    }
    if to_dir.symlink_metadata(to).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // All that this could still replace is an empty folder that was made just now.
    from_dir.rename(from, to_dir, to)
}

/// A folder's names are on the disk.
pub fn sync(dir: &Dir) -> io::Result<()> {
    #[cfg(unix)]
    // The handle itself is for finding names only, not for syncing.
    dir.open(".")?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

/// What is in a file that was opened for reading is on the disk, whoever wrote it; where the system lets only writers sync,
/// it is left to them.
pub fn sync_content(file: &std::fs::File) -> io::Result<()> {
    #[cfg(test)]
    faults::sync()?;
    if cfg!(unix) { file.sync_all() } else { Ok(()) }
}

/// Bytes that are free for us on a folder's disk; `None` where the system does not say.
pub fn free_bytes(dir: &Dir) -> Option<u64> {
    #[cfg(test)]
    if let Some(free) = faults::free() {
        return Some(free);
    }
    #[cfg(unix)]
    {
        let stat = rustix::fs::fstatvfs(dir).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        None
    }
}

/// Bytes that a file has on its disk, however long it says that it is; 0 where the system does not say.
pub fn used_bytes(metadata: &cap_std::fs::Metadata) -> u64 {
    #[cfg(unix)]
    {
        use cap_std::fs::MetadataExt as _;
        metadata.blocks().saturating_mul(512)
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        0
    }
}

/// Fills `buffer` from `offset` on.
pub fn read_at(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(not(unix))]
    {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}

/// Writes all of `bytes` from `offset` on.
pub fn write_at(file: &std::fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(not(unix))]
    {
        use std::io::{Seek as _, SeekFrom, Write as _};
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }
}

/// What a test makes of the disk, for its own thread.
#[cfg(test)]
pub mod faults {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static SYNCED: Cell<usize> = const { Cell::new(0) };
        static IS_FAILING: Cell<bool> = const { Cell::new(false) };
        static FREE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// How many contents this thread has synced.
    pub fn synced() -> usize {
        SYNCED.get()
    }

    /// Whether syncing a content fails from now on.
    pub fn fail_sync(is_failing: bool) {
        IS_FAILING.set(is_failing);
    }

    /// The bytes that are free, whatever the disk says.
    pub fn set_free(free: Option<u64>) {
        FREE.set(free);
    }

    pub(super) fn free() -> Option<u64> {
        FREE.get()
    }

    pub(super) fn sync() -> io::Result<()> {
        SYNCED.set(SYNCED.get() + 1);
        if IS_FAILING.get() { Err(io::Error::other("the disk fails")) } else { Ok(()) }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use cap_std::ambient_authority;

    use super::*;

    #[test]
    fn a_file_has_the_bytes_that_were_written_and_not_those_that_it_only_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("part")).unwrap();
        file.set_len(64 << 20).unwrap();
        write_at(&file, &[7; 100_000], 1 << 20).unwrap();
        file.sync_all().unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), ambient_authority()).unwrap();
        let used = used_bytes(&dir.symlink_metadata("part").unwrap());
        assert!((100_000..1_000_000).contains(&used), "{used}");
    }
}
