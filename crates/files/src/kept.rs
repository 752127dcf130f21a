//! A file with an object a line that this program keeps for its next life, and can do without: replaced as a whole.

use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use serde::Serialize;

/// What the lines of the file are, as far as there is one and they can be read.
pub fn load<T>(path: &Path, read: impl Fn(&str) -> Option<T>) -> impl Iterator<Item = T> {
    let file = std::fs::File::open(path).ok();
    let lines = file.into_iter().flat_map(|file| BufReader::new(file).lines());
    lines.map_while(Result::ok).filter_map(move |line| read(&line))
}

/// Writes the file anew, for its user's eyes only. It is not synced: after a power cut it may be an older one.
///
/// # Errors
/// Of writing; what was there stays.
pub fn store(path: &Path, lines: impl Iterator<Item = impl Serialize>) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = BufWriter::new(options.open(&new)?);
    for line in lines {
        serde_json::to_writer(&mut out, &line)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    drop(out);
    std::fs::rename(&new, path)
}
