//! Programs of the machine that make the place and its faults: which have to be there, and how they are run.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Each with the package that has it on Debian.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("nft", "nftables"),
    ("strace", "strace"),
    ("mkfs.ext4", "e2fsprogs"),
    ("e2fsck", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("fsfreeze", "util-linux"),
    ("nsenter", "util-linux"),
];

/// Where libfaketime may be: distributions differ.
const FAKETIME_FOLDERS: &[&str] = &["/usr/lib", "/usr/lib64", "/lib", "/usr/local/lib"];
/// The variant for programs with threads.
const FAKETIME: &str = "faketime/libfaketimeMT.so.1";

/// What a place needs and is not there, in words.
pub fn missing(clock: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("only root may make network namespaces and disks".to_owned());
    }
    for (program, package) in PROGRAMS {
        if find(program).is_none() {
            missing.push(format!("{program} is not installed (package {package})"));
        }
    }
    if clock && faketime().is_none() {
        missing.push("libfaketime is not installed (package libfaketime)".to_owned());
    }
    missing
}

/// Where a program is. Administrators' folders are looked into also where `PATH` leaves them out.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The library that sets a program's clock.
pub fn faketime() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = FAKETIME_FOLDERS.iter().map(PathBuf::from).collect();
    let machine = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    folders.insert(0, PathBuf::from(machine));
    folders.into_iter().map(|folder| folder.join(FAKETIME)).find(|file| file.is_file())
}

/// Removes what a killed process with libfaketime leaves behind.
pub fn forget_clock(pid: u32) {
    for name in ["faketime_shm_", "sem.faketime_sem_"] {
        // A process that ends by itself removes it.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(format!("{name}{pid}")));
    }
}

/// A program of [`PROGRAMS`].
pub fn program(name: &str) -> Command {
    let mut command = Command::new(find(name).unwrap_or_else(|| name.into()));
    command.stdin(Stdio::null());
    command
}

/// A program with arguments that have no blanks.
pub fn words(name: &str, arguments: &str) -> Command {
    let mut command = program(name);
    command.args(arguments.split(' ').filter(|word| !word.is_empty()));
    command
}

/// Runs a program to its end; what it wrote, or what it complained about.
pub fn run(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} cannot be started"))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a process is there (also one that has ended and that nobody has asked about).
pub fn is_process(pid: &str) -> bool {
    !pid.is_empty() && Path::new("/proc").join(pid).exists()
}
