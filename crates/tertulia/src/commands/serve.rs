//! `serve`: a node, until it is told to stop; says where it is and who comes and goes.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tertulia_server::{CannotListen, Config, Endpoints, Node, Notice, StartError};
use tertulia_wire::safe::make_safe;
use tertulia_wire::time::time_of_day;
use tokio::sync::mpsc;

use super::{now_us, offset_minutes};
use crate::cli::ServeArgs;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::relay::PeerRelay;
use crate::settings;
use crate::signals::{Hangups, Signals};
use crate::units::LogFormat;

/// Notices that wait to be printed; more are dropped by the node.
const NOTICES_MAX: usize = 4096;

/// Runs a node.
pub async fn run(args: &ServeArgs, out: &mut Output) -> Outcome {
    let mut signals = Signals::listen()?;
    let config = settings::config(args)?;
    // Before anybody can know that the node is there: a SIGHUP that nobody listens for would end it.
    let mut hangups = Hangups::listen(config.tls.is_some())?;
    let folder = Folder::take(&config.data)?;
    let (to_printer, notices) = mpsc::channel(NOTICES_MAX);
    let mut node = Node::start(config.clone(), to_printer).await.map_err(refused)?;
    if let Some(relay) = PeerRelay::new() {
        node.relay(relay);
    }
    let endpoints = node.endpoints();
    folder.write(endpoints).map_err(|error| Failure::io("cannot write endpoints.json", &error))?;
    announce(&config, &node, out)?;
    let log_format = settings::log_format(args);
    print_notices(notices, log_format, out);
    let failed = loop {
        tokio::select! {
            _ = signals.stopped() => break None,
            why = node.store_failed() => break Some(why),
            () = hangups.next() => reload(&node, log_format).await,
        }
    };
    node.stop().await;
    folder.clear();
    match failed {
        None => Ok(Exit::Done),
        Some(why) => Err(store_failed(&config, &why)),
    }
}

/// SIGHUP: the certificate's files are new.
async fn reload(node: &Node, log_format: LogFormat) {
    let done = match node.reload_tls().await {
        Ok(Some(fingerprint)) => Ok(format!("TLS: new connections are shown {fingerprint}")),
        Ok(None) => return,
        Err(error) => Err(format!("TLS: the certificate stays as it was: {error}")),
    };
    match (done, log_format) {
        (Ok(line), LogFormat::Json) => tracing::info!("{line}"),
        (Ok(line), LogFormat::Text) => crate::output::error_line(&line),
        (Err(line), _) => trouble(&make_safe(&line, usize::MAX), log_format),
    }
}

/// Nothing more can be stored: to go on would only refuse, and whoever looks after the node would not notice.
fn store_failed(config: &Config, why: &str) -> Failure {
    let text = format!(
        "the store in {} has failed: {why}; what was answered is stored, what was not is unknown to who asked. Look after \
         the disk, then start the node again",
        config.data.display()
    );
    Failure::failed("STORE_FAILED", text)
}

/// What to do about a door that cannot listen.
fn cannot_listen(failed: &CannotListen) -> String {
    let CannotListen { door, address, error } = failed;
    let (ip, port) = (address.ip(), address.port());
    let why = match error.kind() {
        ErrorKind::AddrNotAvailable => {
            let all = if ip.is_ipv4() { "0.0.0.0" } else { "::" };
            return format!(
                "{ip} is on none of this machine's interfaces; use --listen {all} --advertise {ip}"
            );
        }
        ErrorKind::AddrInUse => format!("port {port} is taken"),
        _ => error.to_string(),
    };
    let without = match *door {
        "native" => String::new(),
        door => format!(", or go without it: --no-{door}"),
    };
    format!(
        "the {door} door cannot listen on {address}: {why}; choose another with --{door}-port N \
         (0: any free one){without}"
    )
}

/// What to do about a node that does not start.
fn refused(error: StartError) -> Failure {
    match error {
        StartError::Listen(doors) => {
            let all: Vec<_> = doors.iter().map(cannot_listen).collect();
            let is_taken = |one: &CannotListen| one.error.kind() == ErrorKind::AddrInUse;
            let code = if doors.iter().any(is_taken) { "PORT_TAKEN" } else { "CANNOT_LISTEN" };
            // The address is the same for all doors, and so is what is to be done about it.
            let is_elsewhere = |one: &CannotListen| one.error.kind() == ErrorKind::AddrNotAvailable;
            match all.first() {
                Some(first) if doors.iter().all(is_elsewhere) => {
                    Failure::failed(code, first.clone())
                }
                _ => Failure::failed(code, all.join("; ")),
            }
        }
        StartError::Tls(error) => Failure::failed("TLS", error.to_string()),
        StartError::Store(text) => Failure::failed("STORE", text),
    }
}

/// The data folder, which is one node's.
struct Folder {
    endpoints: PathBuf,
    _lock: File,
}

impl Folder {
    fn take(data: &Path) -> Result<Self, Failure> {
        let shown = data.display();
        let doing = format!("cannot use the data folder {shown}");
        std::fs::create_dir_all(data).map_err(|error| Failure::io(&doing, &error))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(data.join("serve.lock"))
            .map_err(|error| Failure::io(&doing, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text =
                    format!("another node uses {shown}: give this one its own with --data DIR");
                return Err(Failure::failed("DATA_IN_USE", text));
            }
            Err(TryLockError::Error(error)) => return Err(Failure::io(&doing, &error)),
        }
        let folder = Self { endpoints: data.join("endpoints.json"), _lock: lock };
        // That of a node that was killed: who waits for the file has to see the new one.
        folder.clear();
        Ok(folder)
    }

    fn write(&self, endpoints: Endpoints) -> std::io::Result<()> {
        let file = EndpointsFile {
            native: endpoints.native.map(|address| dialable(address).to_string()),
            line: endpoints.line.map(|address| dialable(address).to_string()),
            http: endpoints.http.map(|address| dialable(address).to_string()),
        };
        let new = self.endpoints.with_extension("new");
        std::fs::write(&new, format!("{}\n", tertulia_wire::json::to_line(&file)))?;
        std::fs::rename(&new, &self.endpoints)
    }

    fn clear(&self) {
        if let Err(error) = std::fs::remove_file(&self.endpoints)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!("{}: {error}", self.endpoints.display());
        }
    }
}

/// `endpoints.json`: the doors that are open, as one dials them on this machine.
#[derive(Serialize)]
struct EndpointsFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    native: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
}

/// An address that listens everywhere, as it is reached on this machine.
fn dialable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Where the node is: a line a door, and copyable lines for other machines.
fn announce(config: &Config, node: &Node, out: &mut Output) -> Result<(), Failure> {
    let endpoints = node.endpoints();
    let fingerprint = node.fingerprint();
    let doors = [("native", endpoints.native), ("line", endpoints.line), ("http", endpoints.http)];
    // On this machine the first to register needs none.
    let setup_code = node.setup_code().filter(|_| !config.listen.is_loopback());
    if out.json {
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        out.object(&NoticeLine::Ready {
            native: text(endpoints.native),
            line: text(endpoints.line),
            http: text(endpoints.http),
            setup_code: setup_code.map(str::to_owned),
            tls: fingerprint.map(|fingerprint| fingerprint.to_string()),
        })?;
        return out.flush();
    }
    for (door, address) in doors {
        if let Some(address) = address {
            out.text(&format!("{door:<7} {address}"))?;
        }
    }
    if let Some(fingerprint) = fingerprint {
        out.text(&format!(
            "tls     native and http, beside plain on the same ports; {fingerprint}"
        ))?;
    } else if !config.listen.is_loopback() {
        out.text("tls     off (--tls-self): no passwords or tokens from other machines")?;
    }
    if let Some(code) = setup_code {
        out.text(&format!(
            "set-up code {code} (tertulia register NAME --setup-code {code}: the administrator)"
        ))?;
    }
    if !out.quiet {
        out.text(&format!("data    {}", config.data.display()))?;
        for host in hosts(config) {
            out.text(&format!("on {host}:"))?;
            if let Some(native) = endpoints.native {
                let tls = if fingerprint.is_some() { "tls://" } else { "" };
                out.text(&format!("  tertulia join --node {tls}{host}:{}", native.port()))?;
            }
            if let Some(line) = endpoints.line {
                let bare = host.trim_start_matches('[').trim_end_matches(']');
                out.text(&format!("  nc {bare} {}", line.port()))?;
            }
            if let Some(http) = endpoints.http {
                let curl = if fingerprint.is_some() { "curl -k https" } else { "curl http" };
                out.text(&format!("  {curl}://{host}:{}/api/groups", http.port()))?;
            }
        }
    }
    out.flush()
}

/// The hosts by which other machines reach the node.
fn hosts(config: &Config) -> Vec<String> {
    if let Some(host) = &config.advertise {
        let bare_v6 = host.contains(':') && !host.starts_with('[');
        return vec![if bare_v6 { format!("[{host}]") } else { host.clone() }];
    }
    if !config.listen.is_unspecified() {
        return Vec::new();
    }
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    addresses
        .into_iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip.to_string()),
            IpAddr::V6(ip) if config.listen.is_ipv6() => Some(format!("[{ip}]")),
            IpAddr::V6(_) => None,
        })
        .collect()
}

/// One line of `--json`.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum NoticeLine {
    Ready {
        #[serde(skip_serializing_if = "Option::is_none")]
        native: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        http: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        setup_code: Option<String>,
        /// The certificate's fingerprint.
        #[serde(skip_serializing_if = "Option::is_none")]
        tls: Option<String>,
    },
    Connected {
        address: IpAddr,
        door: &'static str,
    },
    Joined {
        group: String,
        name: String,
        address: IpAddr,
        door: &'static str,
    },
    Away {
        group: String,
        name: String,
    },
    Left {
        group: String,
        name: String,
        why: &'static str,
    },
    Trouble {
        message: String,
    },
}

impl From<Notice> for NoticeLine {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Connected { door, address } => Self::Connected { address, door: door.as_str() },
            Notice::Joined { group, name, address, door } => {
                Self::Joined { group, name, address, door: door.as_str() }
            }
            Notice::Away { group, name } => Self::Away { group, name },
            Notice::Left { group, name, reason } => {
                Self::Left { group, name, why: reason.as_str() }
            }
            Notice::Trouble(message) => Self::Trouble { message },
        }
    }
}

impl NoticeLine {
    fn text(&self) -> String {
        let text = match self {
            // What `announce` prints for people.
            Self::Ready { .. } => String::new(),
            Self::Connected { address, door } => format!("connected {address} {door}"),
            Self::Joined { group, name, address, door } => {
                format!("joined {group} {name} {address} {door}")
            }
            Self::Away { group, name } => format!("away {group} {name}"),
            Self::Left { group, name, why } => format!("left {group} {name} {why}"),
            Self::Trouble { message } => format!("trouble: {message}"),
        };
        make_safe(&text, usize::MAX).into_owned()
    }

    /// The same for who looks on, with the time after it.
    fn text_at(&self, time_us: u64) -> String {
        let time = time_of_day(time_us, offset_minutes(time_us));
        format!("{}  at {time}", self.text())
    }
}

/// Prints what goes by, on a thread of its own: a terminal that is stopped, or a pipe that nobody reads, stops no node.
fn print_notices(mut notices: mpsc::Receiver<Notice>, log_format: LogFormat, out: &Output) {
    let mut out = out.another();
    let quiet = out.quiet && !out.json;
    // A program that reads the lines gets them as they are promised.
    let is_watched = std::io::stdout().is_terminal();
    std::thread::spawn(move || {
        while let Some(notice) = notices.blocking_recv() {
            // Every question is a connection of its own; who joins is told by name.
            let is_question = matches!(
                notice,
                Notice::Connected {
                    door: tertulia_group::Door::Native | tertulia_group::Door::Web,
                    ..
                }
            );
            if is_question && !out.verbose {
                continue;
            }
            let is_trouble = matches!(notice, Notice::Trouble(_));
            let line = NoticeLine::from(notice);
            if is_trouble {
                trouble(&line.text(), log_format);
            }
            if quiet || (is_trouble && !out.json) {
                continue;
            }
            let text = || match is_watched {
                true => line.text_at(now_us()),
                false => line.text(),
            };
            let printed = out.either(&line, text).and_then(|()| out.flush());
            if printed.is_err() {
                // Nobody looks any more; the node goes on.
                return;
            }
        }
    });
}

/// What the operator has to know, on standard error in any case.
fn trouble(text: &str, log_format: LogFormat) {
    match log_format {
        LogFormat::Text => crate::output::error_line(text),
        LogFormat::Json => tracing::error!("{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_addresses_that_can_be_dialled() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::take(data.path()).unwrap();
        let native = Some("0.0.0.0:5001".parse().unwrap());
        folder.write(Endpoints { native, line: None, http: None }).unwrap();
        let text = std::fs::read_to_string(data.path().join("endpoints.json")).unwrap();
        assert_eq!(text.trim(), r#"{"native":"127.0.0.1:5001"}"#);
        let failure = Folder::take(data.path()).err().unwrap();
        assert_eq!(failure.code(), "DATA_IN_USE");
        folder.clear();
        assert!(!data.path().join("endpoints.json").exists());
    }

    #[test]
    fn a_taken_port_names_door_port_and_flag() {
        let address = "127.0.0.1:5000".parse().unwrap();
        let error = std::io::Error::from(ErrorKind::AddrInUse);
        let http = std::io::Error::from(ErrorKind::AddrInUse);
        let at = "127.0.0.1:5080".parse().unwrap();
        let text = refused(StartError::Listen(vec![
            CannotListen { door: "line", address, error },
            CannotListen { door: "http", address: at, error: http },
        ]))
        .message();
        for part in ["line door", "5000", "--line-port", "taken", "5080", "--http-port"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn who_comes_and_goes_is_a_line() {
        let notice = Notice::Joined {
            group: "lobby".into(),
            name: "ana".into(),
            address: "10.0.0.7".parse().unwrap(),
            door: tertulia_group::Door::Line,
        };
        let line = NoticeLine::from(notice);
        assert_eq!(line.text(), "joined lobby ana 10.0.0.7 line");
        let watched = line.text_at(1_800_000_000_000_000);
        assert!(watched.starts_with("joined lobby ana 10.0.0.7 line  at "), "{watched}");
        let (_, time) = watched.rsplit_once(' ').unwrap();
        assert_eq!((time.len(), time.matches(':').count()), (8, 2), "{watched}");
        assert_eq!(
            tertulia_wire::json::to_line(&line),
            r#"{"type":"joined","group":"lobby","name":"ana","address":"10.0.0.7","door":"line"}"#
        );
    }
}
