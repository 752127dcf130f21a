//! The file of known nodes: who was met over TLS, a line each, as `known_hosts` is for ssh.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tertulia_wire::Fingerprint;

use crate::ConnectError;

/// Bytes of the file that are looked at: more than a hundred thousand lines.
const BYTES_MAX: u64 = 16 << 20;

/// A file with a line for each node: `HOST:PORT sha256:…`, `#` begins a remark. Private to its user.
#[derive(Clone)]
pub struct KnownNodes {
    path: PathBuf,
    told: Arc<dyn Fn(&Pinned) + Send + Sync>,
}

/// A node was met for the first time, and its certificate is the only one from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// `host:port`, as it was dialled.
    pub address: String,
    /// Of its certificate.
    pub fingerprint: Fingerprint,
    /// Where it was written down.
    pub file: PathBuf,
}

/// A line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub fingerprint: Fingerprint,
    /// From 1 on.
    pub line: usize,
}

impl KnownNodes {
    /// The file, which is made when it is needed; `told` hears of every node that is met for the first time.
    pub fn new(path: PathBuf, told: impl Fn(&Pinned) + Send + Sync + 'static) -> Self {
        Self { path, told: Arc::new(told) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The node at `address`, where it is known.
    pub(crate) fn find(&self, address: &str) -> Result<Option<Known>, ConnectError> {
        match File::open(&self.path) {
            Ok(mut file) => self.find_in(&mut file, address),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(address, "cannot be read", &error)),
        }
    }

    fn find_in(&self, file: &mut File, address: &str) -> Result<Option<Known>, ConnectError> {
        let mut text = String::new();
        let read = file.take(BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| self.failed(address, "cannot be read", &error))?;
        for (at, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            if !words.next().is_some_and(|word| word.eq_ignore_ascii_case(address)) {
                continue;
            }
            let line = at + 1;
            // Whoever cannot read what was written down must not take the next best certificate for it.
            let fingerprint = words.next().unwrap_or_default().parse().map_err(|error| {
                self.failed(address, &format!("line {line} cannot be read"), &error)
            })?;
            return Ok(Some(Known { fingerprint, line }));
        }
        Ok(None)
    }

    /// Writes a node down. Where another program has done so meanwhile, it has to be the same.
    pub(crate) fn add(&self, address: &str, fingerprint: Fingerprint) -> Result<(), ConnectError> {
        let failed = |error: std::io::Error| self.failed(address, "cannot be written", &error);
        if let Some(folder) = self.path.parent() {
            create_folder(folder).map_err(failed)?;
        }
        let mut options = OpenOptions::new();
        private(options.create(true).read(true).append(true));
        let mut file = options.open(&self.path).map_err(failed)?;
        file.lock().map_err(failed)?;
        if let Some(known) = self.find_in(&mut file, address)? {
            if known.fingerprint == fingerprint {
                return Ok(());
            }
            return Err(ConnectError::CertificateChanged(Box::new(crate::error::Changed {
                address: address.to_owned(),
                expected: known.fingerprint,
                shown: fingerprint,
                file: self.path.clone(),
                line: known.line,
            })));
        }
        // A last line that was edited may have no end.
        let end = if ends_in_line(&mut file).map_err(failed)? { "" } else { "\n" };
        let line = format!("{end}{} {fingerprint}\n", address.to_ascii_lowercase());
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        let address = address.to_owned();
        (self.told)(&Pinned { address, fingerprint, file: self.path.clone() });
        Ok(())
    }

    fn failed(&self, address: &str, what: &str, error: &dyn fmt::Display) -> ConnectError {
        let message = format!("the file of known nodes, {}: {what}: {error}", self.path.display());
        ConnectError::Other { address: address.to_owned(), message }
    }
}

fn ends_in_line(file: &mut File) -> std::io::Result<bool> {
    if file.seek(std::io::SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(std::io::SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

fn create_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

impl fmt::Debug for KnownNodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownNodes").field("path", &self.path).finish_non_exhaustive()
    }
}

impl PartialEq for KnownNodes {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for KnownNodes {}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const ONE: Fingerprint = Fingerprint([1; 32]);
    const TWO: Fingerprint = Fingerprint([2; 32]);

    fn nodes(path: &Path) -> (KnownNodes, Arc<Mutex<Vec<Pinned>>>) {
        let told = Arc::<Mutex<Vec<Pinned>>>::default();
        let tell = Arc::clone(&told);
        let known = KnownNodes::new(path.to_owned(), move |pinned: &Pinned| {
            tell.lock().expect("nobody panicked").push(pinned.clone());
        });
        (known, told)
    }

    #[test]
    fn a_node_is_written_down_once_and_told_once() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (known, told) = nodes(&folder.path().join("new").join("known_nodes"));
        assert_eq!(known.find("n:1")?, None);
        known.add("n:1", ONE)?;
        known.add("N:1", ONE)?;
        known.add("n:2", TWO)?;
        assert_eq!(known.find("N:1")?, Some(Known { fingerprint: ONE, line: 1 }));
        assert_eq!(known.find("n:2")?, Some(Known { fingerprint: TWO, line: 2 }));
        assert_eq!(told.lock().expect("nobody panicked").len(), 2);
        let changed = known.add("n:2", ONE).expect_err("it is another one").to_string();
        for part in [ONE.to_string(), TWO.to_string(), known.path().display().to_string()] {
            assert!(changed.contains(&part), "{changed}");
        }
        Ok(())
    }

    #[test]
    fn what_people_edit_is_read_and_what_is_broken_is_no_first_time() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("known_nodes");
        std::fs::write(
            &path,
            format!("# mine\n\nn:1  {ONE}  a remark\nbad:1 sha256:12\nlast:1 {TWO}"),
        )?;
        let (known, _) = nodes(&path);
        assert_eq!(known.find("n:1")?, Some(Known { fingerprint: ONE, line: 3 }));
        assert!(known.find("bad:1").expect_err("it cannot be read").to_string().contains("line 4"));
        assert!(known.add("bad:1", ONE).is_err());
        known.add("n:2", TWO)?;
        assert_eq!(known.find("last:1")?, Some(Known { fingerprint: TWO, line: 5 }));
        assert_eq!(known.find("n:2")?, Some(Known { fingerprint: TWO, line: 6 }));
        Ok(())
    }
}
