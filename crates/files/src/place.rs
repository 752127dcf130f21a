//! What of putting a file in its place differs between systems: renaming without overwriting, syncing, free bytes.

use std::io;

use cap_std::fs::Dir;
use tertulia_wire::text::size_text;

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

/// What was written to a file is on the disk.
pub fn sync_file(file: &std::fs::File) -> io::Result<()> {
    #[cfg(test)]
    faults::sync()?;
    file.sync_all()
}

/// What is in a file that was opened for reading is on the disk, whoever wrote it; where the system lets only writers sync,
/// it is left to them.
pub fn sync_content(file: &std::fs::File) -> io::Result<()> {
    if cfg!(unix) { sync_file(file) } else { Ok(()) }
}

/// A file system that can be synced as a whole, and says then what could not be written since this was opened.
#[derive(Debug)]
pub struct FileSystem {
    #[cfg(target_os = "linux")]
    opened: cap_std::fs::File,
}

impl FileSystem {
    /// That of a folder; `None` where syncing it as a whole would not be the same as syncing each file.
    pub fn of(dir: &Dir) -> Option<Self> {
        #[cfg(target_os = "linux")]
        {
            // Those that write everything to the disk at it and wait. Others leave it to a server, or to another file system
            // whose errors they do not pass on.
            const EXT: u32 = 0xef53;
            const XFS: u32 = 0x5846_5342;
            const BTRFS: u32 = 0x9123_683e;
            const TMPFS: u32 = 0x0102_1994;
            let kind = u32::try_from(rustix::fs::fstatfs(dir).ok()?.f_type).ok()?;
            let is_known = matches!(kind, EXT | XFS | BTRFS | TMPFS);
            let opened = (is_known && tells_of_errors()).then(|| dir.open("."))?.ok()?;
            Some(Self { opened })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = dir;
            None
        }
    }

    /// Everything that was written to it before is on the disk, files and names, whoever wrote it. Blocks, as long as that takes.
    ///
    /// # Errors
    /// Where anything could not be written, since this was opened or since it was said before.
    pub fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        faults::sync_whole()?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(&self.opened)?;
        Ok(())
    }
}

/// Whether this kernel's `syncfs` says what could not be written: of contents since 5.8, of everything else since 5.17.
#[cfg(target_os = "linux")]
fn tells_of_errors() -> bool {
    static TELLS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *TELLS.get_or_init(|| {
        let system = rustix::system::uname();
        let mut numbers = system.release().to_str().unwrap_or_default().split(['.', '-']);
        let mut next = || numbers.next().and_then(|text| text.parse::<u32>().ok());
        next().zip(next()) >= Some((5, 17))
    })
}

/// Bytes that are free for us on a folder's disk; `None` where the system does not say.
fn free_bytes(dir: &Dir) -> Option<u64> {
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

/// Bytes of a folder's disk that are to stay free of what its user has not asked for; 0 where the system does not say.
pub fn bytes_to_keep(dir: &Dir) -> u64 {
    #[cfg(unix)]
    {
        let Ok(stat) = rustix::fs::fstatvfs(dir) else { return 0 };
        let all = stat.f_blocks.saturating_mul(stat.f_frsize);
        (all / 20).min(crate::limits::FREE_BYTES_KEPT)
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        0
    }
}

/// What does not fit a disk: the reason in an error of the kind [`io::ErrorKind::StorageFull`].
#[derive(Debug, thiserror::Error)]
#[error("{} needed, {} free{}", size_text(*needed), size_text(*free), kept_text(*kept))]
struct NoSpace {
    needed: u64,
    free: u64,
    kept: u64,
}

fn kept_text(kept: u64) -> String {
    if kept == 0 { String::new() } else { format!(" of which {} stay so", size_text(kept)) }
}

/// Whether so many bytes more fit a folder's disk, and `keep` stay free then; where the system does not say, writing will.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`], which says how many are needed, how many are free, and how many of them are to stay so.
pub fn check_space(dir: &Dir, needed: u64, keep: u64) -> io::Result<()> {
    match free_bytes(dir) {
        Some(free) if free < needed.saturating_add(keep) => {
            Err(io::Error::new(io::ErrorKind::StorageFull, NoSpace { needed, free, kept: keep }))
        }
        _ => Ok(()),
    }
}

/// That so many bytes do not fit, and how many are free; `None` where the system does not say.
pub fn no_space(dir: &Dir, needed: u64) -> Option<io::Error> {
    let free = free_bytes(dir)?;
    Some(io::Error::new(io::ErrorKind::StorageFull, NoSpace { needed, free, kept: 0 }))
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

/// Whether it is this program's user's, as far as the system says so. Where others may write in the folder that it is in, they
/// may have put it there.
pub fn is_ours(metadata: &cap_std::fs::Metadata) -> bool {
    #[cfg(unix)]
    {
        use cap_std::fs::MetadataExt as _;
        metadata.uid() == rustix::process::geteuid().as_raw()
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        true
    }
}

/// Whether a folder is this program's user's and nobody else may write in it; nobody may from then on. Where the file system keeps
/// no such thing and says the same of everything, it is.
pub fn is_only_ours(dir: &Dir) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use cap_std::fs::MetadataExt as _;
        let is_open = || dir.dir_metadata().map(|metadata| metadata.mode() & 0o022 != 0);
        if !is_ours(&dir.dir_metadata()?) {
            return Ok(false);
        }
        if !is_open()? {
            return Ok(true);
        }
        rustix::fs::fchmod(dir.open(".")?, rustix::fs::Mode::RWXU)?;
        is_open()
    }
    #[cfg(not(unix))]
    {
        let _ = dir;
        Ok(true)
    }
}

/// Whether two folders are the same user's.
pub fn have_one_owner(one: &Dir, other: &Dir) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use cap_std::fs::MetadataExt as _;
        Ok(one.dir_metadata()?.uid() == other.dir_metadata()?.uid())
    }
    #[cfg(not(unix))]
    {
        let _ = (one, other);
        Ok(true)
    }
}

/// Makes a folder that only this program's user may look into and write.
pub fn make_own_folder(dir: &Dir, name: &str) -> io::Result<()> {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "nothing is set"))]
    let mut made = cap_std::fs::DirBuilder::new();
    #[cfg(unix)]
    cap_std::fs::DirBuilderExt::mode(&mut made, 0o700);
    dir.create_dir_with(name, &made)
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
    use std::thread::LocalKey;

    thread_local! {
        static SYNCED: Cell<usize> = const { Cell::new(0) };
        static SYNCED_WHOLE: Cell<usize> = const { Cell::new(0) };
        static IS_FAILING: Cell<bool> = const { Cell::new(false) };
        static IS_WHOLE_FAILING: Cell<bool> = const { Cell::new(false) };
        static FREE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// How many contents this thread has synced.
    pub fn synced() -> usize {
        SYNCED.get()
    }

    /// How often this thread has synced a whole file system.
    pub fn synced_whole() -> usize {
        SYNCED_WHOLE.get()
    }

    /// Whether syncing a content fails from now on.
    pub fn fail_sync(is_failing: bool) {
        IS_FAILING.set(is_failing);
    }

    /// The same of a whole file system.
    pub fn fail_sync_whole(is_failing: bool) {
        IS_WHOLE_FAILING.set(is_failing);
    }

    /// The bytes that are free, whatever the disk says.
    pub fn set_free(free: Option<u64>) {
        FREE.set(free);
    }

    pub(super) fn free() -> Option<u64> {
        FREE.get()
    }

    pub(super) fn sync() -> io::Result<()> {
        count(&SYNCED, &IS_FAILING)
    }

    pub(super) fn sync_whole() -> io::Result<()> {
        count(&SYNCED_WHOLE, &IS_WHOLE_FAILING)
    }

    fn count(
        count: &'static LocalKey<Cell<usize>>,
        is_failing: &'static LocalKey<Cell<bool>>,
    ) -> io::Result<()> {
        count.set(count.get() + 1);
        if is_failing.get() { Err(io::Error::other("the disk fails")) } else { Ok(()) }
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
