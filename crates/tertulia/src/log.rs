//! What the program logs on standard error: text for people, or an object a line; nothing foreign reaches a terminal unescaped,
//! and no library logs what it reads and writes.

use std::io::Write;

use tertulia_wire::safe::{is_unsafe, make_safe};
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::FilterExt as _;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter};

use crate::units::LogFormat;

/// Lines that wait for whoever reads the log; more are lost, so that a log that nobody reads stops no node.
const LINES_MAX: usize = 8_192;

/// Begins to log: warnings, who comes and goes too in an object a line, more with `-v` or `RUST_LOG`. What was logged is
/// written when the guard is dropped.
pub fn start(format: LogFormat, verbose: u8) -> WorkerGuard {
    let default = match (verbose, format) {
        (0 | 1, LogFormat::Text) => "warn",
        (0 | 1, LogFormat::Json) => "info",
        (2, _) => {
            "tertulia=debug,tertulia_client=debug,tertulia_files=debug,tertulia_server=debug,info"
        }
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let filter = filter::filter_fn(is_quiet_enough).and(filter);
    let builder = NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).lossy(true);
    let (writer, guard) = builder.finish(std::io::stderr());
    let layer = tracing_subscriber::fmt::layer();
    let registry = tracing_subscriber::registry();
    match format {
        LogFormat::Text => {
            let fields = debug_fn(|writer, field, value| {
                let text = format!("{value:?}");
                let text = make_safe(&text, usize::MAX);
                match field.name() {
                    "message" => write!(writer, "{text}"),
                    name => write!(writer, "{name}={text}"),
                }
            });
            let fields = tracing_subscriber::field::MakeExt::delimited(fields, " ");
            let colours = crate::output::colours(&std::io::stderr());
            let layer = layer.fmt_fields(fields).with_ansi(colours).with_writer(writer);
            registry.with(layer.with_filter(filter)).init();
        }
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_writer(Escaping(writer));
            registry.with(layer.with_filter(filter)).init();
            std::panic::set_hook(Box::new(log_panic));
        }
    }
    guard
}

/// Libraries log requests, headers and frames as they are on their finer levels: those are nobody's to read.
fn is_quiet_enough(about: &Metadata<'_>) -> bool {
    about.target().starts_with("tertulia") || *about.level() <= Level::INFO
}

/// A bug of ours is a line like every other.
fn log_panic(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let text = info.payload_as_str().unwrap_or("a panic");
    tracing::error!(place, "a bug of ours: {text}");
}

/// Writes JSON in which what could steer a terminal or turn a line around is escaped too: it stands in strings only.
#[derive(Clone)]
struct Escaping(NonBlocking);

impl<'a> MakeWriter<'a> for Escaping {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Escaping {
    /// Takes whole lines, as the layer gives them.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write_all(escape(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

fn escape(line: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '\n' => out.push(c),
            c if is_unsafe(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_line_says_the_same() {
        let text = "a\u{1b}[31m\u{202e}b\u{9b}\u{7f}ñ\n";
        let line = serde_json::to_string(&serde_json::json!({ "text": text })).unwrap();
        let escaped = escape(&line);
        assert!(!escaped.chars().any(is_unsafe) && escaped.contains('ñ'), "{escaped}");
        let read: serde_json::Value = serde_json::from_str(&escaped).unwrap();
        assert_eq!(read["text"], text);
    }
}
