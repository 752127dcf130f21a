//! File operations of the store: all that is particular to a platform, and the place where tests make the disk fail.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file operation that a hook is asked about before it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// A new segment file is being made.
    Allocate,
    /// A piece of the next segment is being filled with zeros, beside the commits.
    Fill,
    /// Records are being written.
    Write,
    /// What was written is being made durable.
    Sync,
    /// A segment file is being removed.
    Remove,
}

/// Asked before every file operation; an error is taken for the operating system's. For tests.
pub type FileHook = Arc<dyn Fn(FileOp) -> io::Result<()> + Send + Sync>;

/// Commits that are as large save too little of each sync to write every byte twice, as a zero first: 64 KiB would gain 7 %.
const FILLED_COMMIT_BYTES: u64 = 32 << 10;
/// How much is filled with zeros in one go: a commit that comes at the same time waits for it.
pub(crate) const FILL_BYTES: u64 = 128 << 10;

/// The store's directory.
pub(crate) struct Disk {
    dir: PathBuf,
    hook: Option<FileHook>,
    /// Each commit is synced, which is faster where the zeros of new segments are written out: a sync of what only is reserved has
    /// to change the file's map of extents as well.
    syncs: bool,
    /// Nothing is written, not even on a disk that would take it.
    reads_only: bool,
}

/// Whether the operating system says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a directory, and those above it, for this user alone.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Fills `buffer` from the file at `offset`; never moves a cursor, so that any thread may read.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset);
    #[cfg(not(unix))]
    {
        let mut done = 0;
        while done < buffer.len() {
            use std::os::windows::fs::FileExt;
            match file.seek_read(&mut buffer[done..], offset + done as u64)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

fn write_at(file: &File, buffer: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, buffer, offset);
    #[cfg(not(unix))]
    {
        let mut done = 0;
        while done < buffer.len() {
            use std::os::windows::fs::FileExt;
            done += file.seek_write(&buffer[done..], offset + done as u64)?;
        }
        Ok(())
    }
}

/// Writes the pieces one behind the other, with as few calls as it takes.
#[cfg(target_os = "linux")]
fn write_pieces(file: &File, pieces: &[&[u8]], mut offset: u64) -> io::Result<()> {
    const PIECES_MAX: usize = 512;
    for group in pieces.chunks(PIECES_MAX) {
        let slices: Vec<_> = group.iter().map(|piece| io::IoSlice::new(piece)).collect();
        let len: usize = group.iter().map(|piece| piece.len()).sum();
        let written = rustix::io::retry_on_intr(|| rustix::io::pwritev(file, &slices, offset))?;
        // A short write is rare (a signal, a nearly full disk): the rest goes piece by piece.
        let mut skip = written;
        let mut at = offset + written as u64;
        for piece in group {
            let rest = &piece[skip.min(piece.len())..];
            skip -= piece.len() - rest.len();
            write_at(file, rest, at)?;
            at += rest.len() as u64;
        }
        offset += len as u64;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn write_pieces(file: &File, pieces: &[&[u8]], mut offset: u64) -> io::Result<()> {
    for piece in pieces {
        write_at(file, piece, offset)?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// Gives the file its size, and the room for it where that can be reserved: whether it was.
#[cfg(target_os = "linux")]
fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    use rustix::io::Errno;
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, flags, 0, bytes)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes).map(|()| false),
        other => other.map(|()| true).map_err(io::Error::from),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    file.set_len(bytes).map(|()| false)
}

/// Has the system begin to write a part of the file out, without waiting for it: Linux does so when told that the part is not needed soon.
#[cfg(target_os = "linux")]
fn begin_writing(file: &File, from: u64, to: u64) {
    let len = std::num::NonZeroU64::new(to - from);
    // Only a hint: a sync writes what has not been written.
    let _ = rustix::fs::fadvise(file, from, len, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
fn begin_writing(_file: &File, _from: u64, _to: u64) {}

fn zero(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let len = (zeros.len() as u64).min(to - at);
        write_at(file, &zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

impl Disk {
    pub fn new(dir: PathBuf, hook: Option<FileHook>, syncs: bool) -> Self {
        Self { dir, hook, syncs, reads_only: false }
    }

    /// A directory that is only looked at.
    pub const fn to_read(dir: PathBuf) -> Self {
        Self { dir, hook: None, syncs: false, reads_only: true }
    }

    fn ask(&self, op: FileOp) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(op))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Opens a file for reading and writing, or only for reading.
    pub fn open(&self, name: &str, create: bool) -> io::Result<File> {
        if self.reads_only {
            return File::open(self.path(name));
        }
        options().create(create).open(self.path(name))
    }

    /// Whether commits of about that many bytes gain by zeros that were written out.
    pub const fn gains_by_zeros(&self, commit_bytes: u64) -> bool {
        self.syncs && commit_bytes < FILLED_COMMIT_BYTES
    }

    /// Makes a file of zeros, written out at once if it is to be `filled`, or where nothing else reserves its room. When that fails nothing
    /// stays behind.
    pub fn allocate(&self, name: &str, bytes: u64, filled: bool) -> io::Result<File> {
        self.ask(FileOp::Allocate)?;
        let file = options().create_new(true).open(self.path(name))?;
        let made = reserve(&file, bytes).and_then(|is_reserved| {
            let fills = filled || (self.syncs && !is_reserved);
            if fills { zero(&file, 0, bytes) } else { Ok(()) }
        });
        match made {
            Ok(()) => Ok(file),
            Err(error) => {
                // The first error is the one to tell; opening clears away what stays.
                drop(fs::remove_file(self.path(name)));
                Err(error)
            }
        }
    }

    /// Writes zeros where nothing but reserved room was, and does not wait until they are on the disk. At most [`FILL_BYTES`].
    pub fn fill(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        static ZEROS: [u8; FILL_BYTES as usize] = [0; FILL_BYTES as usize];
        self.ask(FileOp::Fill)?;
        write_at(file, &ZEROS[..(to - from) as usize], from)?;
        begin_writing(file, from, to);
        Ok(())
    }

    pub fn write(&self, file: &File, pieces: &[&[u8]], offset: u64) -> io::Result<()> {
        self.ask(FileOp::Write)?;
        write_pieces(file, pieces, offset)
    }

    /// Overwrites a part of a file with zeros.
    pub fn zero(&self, file: &File, from: u64, to: u64) -> io::Result<()> {
        self.ask(FileOp::Write)?;
        zero(file, from, to)
    }

    pub fn sync(&self, file: &File) -> io::Result<()> {
        self.ask(FileOp::Sync)?;
        file.sync_data()
    }

    /// Waits until what was filled is on the disk. Nothing depends on it but the speed of commits.
    pub fn sync_filled(&self, file: &File) -> io::Result<()> {
        self.ask(FileOp::Fill)?;
        file.sync_data()
    }

    /// Makes new and removed names durable.
    pub fn sync_dir(&self) -> io::Result<()> {
        if cfg!(unix) { File::open(&self.dir)?.sync_all() } else { Ok(()) }
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.ask(FileOp::Remove)?;
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a small file as a whole: it is there with this text, or as it was before.
    pub fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let temporary = format!("{name}.new");
        let file = options().create(true).truncate(true).open(self.path(&temporary))?;
        self.write(&file, &[text.as_bytes()], 0)?;
        file.sync_all()?;
        fs::rename(self.path(&temporary), self.path(name))?;
        self.sync_dir()
    }
}
