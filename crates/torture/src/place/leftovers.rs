//! Removes a place by its name alone, so that one that was killed can be removed by the next.
//!
//! Everything of a place has a name that begins with `torture-PID-NUMBER`: its namespaces and its folder, in which its disk
//! is mounted. Processes of it are those in its namespaces.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::tools::{forget_clock, is_process, program, run, words};

/// Not `tertulia-`: tests of the command line remove what begins so and is not theirs.
const BEGINS: &str = "torture-";
/// How long a killed process may take to let go of the disk.
pub const LETS_GO: Duration = Duration::from_secs(10);

/// A name that no other place has.
pub fn unused_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{BEGINS}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The folder of a place.
pub fn folder(name: &str) -> PathBuf {
    let temporary = std::env::temp_dir();
    // As the kernel calls it in its list of mounts.
    temporary.canonicalize().unwrap_or(temporary).join(name)
}

/// Where the memory is mounted that the disk's image is kept in.
pub fn memory(name: &str) -> PathBuf {
    folder(name).join("memory")
}

/// Where the disk is mounted.
pub fn mounted(name: &str) -> PathBuf {
    memory(name).join("disk")
}

/// Removes all places whose processes are gone.
pub fn remove_dead() {
    let mut names: Vec<String> = spaces().unwrap_or_default();
    let entries = std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    names.extend(entries.map(|entry| entry.file_name().to_string_lossy().into_owned()));
    let mut places: Vec<&str> = names.iter().filter_map(|name| place_of(name)).collect();
    places.sort_unstable();
    places.dedup();
    for place in places {
        let pid = place[BEGINS.len()..].split('-').next().unwrap_or_default();
        if !is_process(pid)
            && let Err(error) = remove(place)
        {
            eprintln!("{place} of an earlier run is left behind: {error:#}");
        }
    }
}

/// The name of the place that a namespace or folder belongs to.
fn place_of(name: &str) -> Option<&str> {
    let mut parts = name.strip_prefix(BEGINS)?.splitn(3, '-');
    let (pid, number) = (parts.next()?, parts.next()?);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(pid) && digits(number)).then(|| &name[..BEGINS.len() + pid.len() + 1 + number.len()])
}

/// Removes a place: processes, disk, namespaces, folder. What is not there is no failure.
pub fn remove(name: &str) -> Result<()> {
    // A signal may remove a place while it is being dropped.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A process that waits for a frozen disk cannot even be killed.
    if is_mounted(&mounted(name)) {
        let mut thaw = program("fsfreeze");
        thaw.arg("-u").arg(mounted(name)).stderr(Stdio::null());
        let _ = thaw.status();
    }
    let spaces: Vec<String> =
        spaces()?.into_iter().filter(|space| place_of(space) == Some(name)).collect();
    for space in &spaces {
        for pid in run(words("ip", &format!("netns pids {space}")))?.split_whitespace() {
            let process = pid.parse().ok().and_then(Pid::from_raw);
            // This one's first thread may have entered a host.
            if let Some(process) = process.filter(|pid| *pid != rustix::process::getpid()) {
                // It may have ended meanwhile.
                let _ = kill_process(process, Signal::KILL);
                forget_clock(process.as_raw_pid().cast_unsigned());
            }
        }
    }
    unmount(&mounted(name))?;
    unmount(&memory(name))?;
    for space in &spaces {
        run(words("ip", &format!("netns delete {space}")))?;
    }
    let folder = folder(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// The namespaces of all places.
fn spaces() -> Result<Vec<String>> {
    let listed = run(words("ip", "netns list"))?;
    let names = listed.lines().filter_map(|line| line.split(' ').next());
    Ok(names.filter(|name| place_of(name).is_some()).map(str::to_owned).collect())
}

/// Whether something is mounted there.
pub fn is_mounted(folder: &Path) -> bool {
    device_of(folder).is_some()
}

/// What is mounted there: `/dev/loop0`.
pub fn device_of(folder: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let folder = folder.to_str()?;
    let mut devices = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let device = words.next()?;
        (words.next() == Some(folder)).then(|| device.to_owned())
    });
    devices.next_back()
}

/// Takes away what is mounted there, as soon as those who were killed have let go of it.
pub fn unmount(folder: &Path) -> Result<()> {
    let until = Instant::now() + LETS_GO;
    while is_mounted(folder) {
        let mut command = program("umount");
        command.arg(folder);
        let Err(error) = run(command) else { continue };
        ensure!(Instant::now() < until, error);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_name_is_found() {
        for (name, place) in [
            ("torture-12-0-node", Some("torture-12-0")),
            ("torture-12-0", Some("torture-12-0")),
            ("torture-12", None),
            ("torture-x-0", None),
            ("tertulia-12-0-node", None),
        ] {
            assert_eq!(place_of(name), place, "{name}");
        }
        assert_eq!(place_of(&unused_name()).map(str::len), Some(unused_name().len()));
    }
}
