//! The node's own small disk: ext4 on a loop device whose image is in memory.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::leftovers::{LETS_GO, device_of, memory, mounted, unmount};
use super::tools::{program, run};

/// The disk, while it is mounted; `leftovers` removes it.
pub struct Disk {
    image: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// Makes and mounts it.
    pub fn new(place: &str, mib: u64) -> Result<Self> {
        let (memory, folder) = (memory(place), mounted(place));
        std::fs::create_dir(&memory)?;
        let mut mount = program("mount");
        // Shared: programs with mounts of their own (also `ip`) have a copy of the disk's mount, and would keep the
        // disk in use after it was unmounted here.
        mount
            .args(["--make-shared", "-t", "tmpfs", "-o", &format!("size={}m", mib + 1), place])
            .arg(&memory);
        run(mount)?;
        std::fs::create_dir(&folder)?;
        let image = memory.join("image");
        File::create(&image)?.set_len(mib << 20)?;
        let mut mkfs = program("mkfs.ext4");
        // No room for root alone, and nothing that would go on by itself after mounting.
        mkfs.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
        mkfs.arg(&image);
        run(mkfs)?;
        let disk = Self { image, folder };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn mount(&self) -> Result<()> {
        let mut mount = program("mount");
        // `-w`: never read-only instead, where the loop device has been made so.
        mount.args(["-w", "-t", "ext4", "-o", "loop,errors=remount-ro"]);
        mount.arg(&self.image).arg(&self.folder);
        run(mount).map(drop)
    }

    /// From now on nothing reaches the disk, not even the file system's own journal.
    pub fn cut(&self) -> Result<()> {
        super::ioctl::shut_down(&File::open(&self.folder)?).context("the disk cannot be cut off")
    }

    /// Mounts it again as it is after a power cut or an error, checked as at the start of a machine. Nobody may use it.
    pub fn mount_again(&self) -> Result<()> {
        let device = device_of(&self.folder).context("the disk is not mounted")?;
        unmount(&self.folder)?;
        wait_for_release(&device, &self.image)?;
        match std::fs::remove_file(self.other_image()) {
            Err(error) if error.kind() != ErrorKind::NotFound => bail!(error),
            _ => {}
        }
        let mut check = program("e2fsck");
        check.arg("-p").arg(&self.image);
        let output = check.output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        // 1: errors were there, and have been mended without asking.
        ensure!(matches!(output.status.code(), Some(0 | 1)), "e2fsck: {said}");
        self.mount()
    }

    /// Fills it to the last block; the file to remove later, and its length.
    pub fn fill(&self) -> Result<(PathBuf, u64)> {
        let path = self.folder.join("filler");
        let filled = fill_with(&path)?;
        Ok((path, filled))
    }

    /// Fills what the image is kept in: the disk loses what is written to blocks that it has not had so far, until it is
    /// [mounted again](Self::mount_again).
    pub fn starve(&self) -> Result<u64> {
        fill_with(&self.other_image())
    }

    /// Takes the room that the image would grow into.
    fn other_image(&self) -> PathBuf {
        self.image.with_extension("other")
    }

    /// The file system finds an error in itself, and lets nobody write from then on.
    pub fn break_file_system(&self) -> Result<()> {
        let device = device_of(&self.folder).context("the disk is not mounted")?;
        let name = device.trim_start_matches("/dev/");
        let path = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        let mut file = OpenOptions::new().write(true).open(&path).with_context(|| path.clone())?;
        file.write_all(b"torture").with_context(|| path.clone())
    }

    /// Whether everything that writes waits.
    pub fn set_frozen(&self, is_frozen: bool) -> Result<()> {
        let mut command = program("fsfreeze");
        command.arg(if is_frozen { "-f" } else { "-u" }).arg(&self.folder);
        run(command).map(drop)
    }
}

/// Waits until the loop device has nothing to do with the image any more. Mounted before that, the image would come back
/// in the state that it was left in, as nobody had ended its use.
fn wait_for_release(device: &str, image: &Path) -> Result<()> {
    let name = device.trim_start_matches("/dev/");
    let backing = PathBuf::from(format!("/sys/block/{name}/loop/backing_file"));
    let until = Instant::now() + LETS_GO;
    while std::fs::read_to_string(&backing).is_ok_and(|path| Path::new(path.trim()) == image) {
        ensure!(Instant::now() < until, "some other program still uses {device}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A file that takes all the room that is left; its length.
fn fill_with(path: &Path) -> Result<u64> {
    let mut file = File::create(path)?;
    let mut filled = 0;
    // A megabyte at a time, and the rest in ever smaller pieces.
    let zeros = vec![0; 1 << 20];
    let mut piece = zeros.len();
    while piece > 0 {
        match file.write(&zeros[..piece]) {
            Ok(written) => filled += written as u64,
            Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 2,
            Err(error) => bail!("{}: {error}", path.display()),
        }
    }
    // Blocks are only given to it now, and what is promised may not be there.
    match file.sync_all() {
        Err(error) if error.kind() != ErrorKind::StorageFull => bail!(error),
        _ => Ok(filled),
    }
}
