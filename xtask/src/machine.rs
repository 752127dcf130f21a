//! Gets the programs that some tests drive onto the machine, or says which ones are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

/// The programs and the Debian packages that bring them.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nc", "netcat-openbsd"),
    ("ps", "procps"),
    // An environment for schemathesis; Debian's has a package of its own for that.
    ("python3", "python3-venv"),
    ("tmux", "tmux"),
    // Instructions are counted.
    ("valgrind", "valgrind"),
    // The torture: hosts, disks that fail, clocks that jump, calls that are cut short.
    ("faketime", "faketime"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("strace", "strace"),
];

/// The command that repeats the step.
pub const REPEAT: &str = "apt-get install e2fsprogs faketime iproute2 mount netcat-openbsd nftables \
                          procps python3-venv strace tmux util-linux valgrind";

/// Installs what is missing, where that is possible.
///
/// Without it the tests concerned skip themselves, saying why. In CI nobody reads that, so there
/// a missing tool is a failure.
pub fn prepare(ci: bool) -> Result<()> {
    let missing = get(TOOLS);
    if missing.is_empty() {
        return Ok(());
    }
    let programs = missing.join(", ");
    if ci {
        bail!("in CI every test has to run, but these programs are missing: {programs}");
    }
    println!("tests that need {programs} will skip themselves");
    Ok(())
}

/// The same for something that cannot go on without these.
pub fn require(tools: &[(&str, &str)]) -> Result<()> {
    let missing = get(tools);
    ensure!(missing.is_empty(), "these programs are missing: {}", missing.join(", "));
    Ok(())
}

/// Installs what is missing, where that is possible, and answers which programs are missing still.
fn get<'a>(tools: &[(&'a str, &str)]) -> Vec<&'a str> {
    match plan(&missing(tools), is_root(), is_there("apt-get")) {
        Plan::Nothing => println!("all tools are there"),
        Plan::Tell(packages) => println!("missing packages, please install: {packages}"),
        Plan::Install(packages) => {
            println!("installing {packages} with apt-get");
            if !install(&packages) {
                println!("apt-get could not install {packages}");
            }
        }
    }
    missing(tools).into_iter().map(|(program, _)| program).collect()
}

/// Whether this run is CI's: `CI` is set, and not to a word for no.
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Install(String),
    Tell(String),
}

fn plan(missing: &[(&str, &str)], root: bool, apt: bool) -> Plan {
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    let packages = packages.join(" ");
    match (missing.is_empty(), root && apt) {
        (true, _) => Plan::Nothing,
        (false, true) => Plan::Install(packages),
        (false, false) => Plan::Tell(packages),
    }
}

fn missing<'a, 'b>(tools: &[(&'a str, &'b str)]) -> Vec<(&'a str, &'b str)> {
    tools.iter().filter(|(program, _)| !is_there(program)).copied().collect()
}

/// Looks in `PATH`, and where Debian keeps `ip` for those whose `PATH` lacks it.
pub fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    folders
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| Path::new(&folder).join(program).is_file())
}

/// Installs one package more, where that is possible: one whose program being there says nothing of it.
pub fn bring(package: &str) -> Result<()> {
    ensure!(is_root() && is_there("apt-get"), "please install {package}");
    println!("installing {package} with apt-get");
    ensure!(install(package), "apt-get could not install {package}");
    Ok(())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// A fresh machine has no package lists yet, so they are fetched first.
fn install(packages: &str) -> bool {
    let apt = |arguments: &str| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments.split_whitespace());
        command.status().is_ok_and(|status| status.success())
    };
    // Old lists may still do where new ones cannot be had; the second command decides.
    let _ = apt("update -qq");
    apt(&format!("install -qq -y --no-install-recommends {packages}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_with_apt_installs_and_only_what_is_missing() {
        let two = [("nc", "netcat-openbsd"), ("tmux", "tmux")];
        let packages = "netcat-openbsd tmux".to_owned();
        let cases = [
            (&two[..], true, true, Plan::Install(packages.clone())),
            (&two[..], false, true, Plan::Tell(packages.clone())),
            (&two[..], true, false, Plan::Tell(packages)),
            (&[], true, true, Plan::Nothing),
        ];
        for (missing, root, apt, want) in cases {
            assert_eq!(plan(missing, root, apt), want, "root {root}, apt {apt}");
        }
    }

    #[test]
    fn the_repeat_command_names_every_package() {
        assert!(TOOLS.iter().all(|(_, package)| REPEAT.contains(package)));
    }
}
