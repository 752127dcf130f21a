//! What a node is told, from four places: a flag is stronger than the environment, that than the file, that than the default.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use tertulia_group::{Limits, Name};
use tertulia_server::{AccountRules, Config, Engine, Keep, NodeLimits, TlsSource};
use tertulia_wire::{HTTP_PORT, LINE_PORT, NATIVE_PORT};

use crate::cli::ServeArgs;
use crate::failure::Failure;
use crate::units::LogFormat;
use crate::{names, state, units};

/// One place's say: what it leaves open is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Layer {
    listen: Option<IpAddr>,
    advertise: Option<String>,
    data: Option<PathBuf>,
    native_port: Option<u16>,
    line_port: Option<u16>,
    http_port: Option<u16>,
    no_line: Option<bool>,
    no_http: Option<bool>,
    no_guests: Option<bool>,
    no_register: Option<bool>,
    insecure_line_logins: Option<bool>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_self: Option<bool>,
    keep: Option<Keep>,
    engine: Option<Engine>,
    fsync: Option<bool>,
    node_id: Option<String>,
    max_connections: Option<usize>,
    max_connections_per_address: Option<usize>,
    max_message: Option<usize>,
    log_format: Option<LogFormat>,
}

/// Every key of the file; `TERTULIA_` and the same in capitals is the variable.
const KEYS: [&str; 23] = [
    "listen",
    "address",
    "advertise",
    "data",
    "native_port",
    "line_port",
    "http_port",
    "no_line",
    "no_http",
    "no_guests",
    "no_register",
    "insecure_line_logins",
    "tls_cert",
    "tls_key",
    "tls_self",
    "keep",
    "engine",
    "sync",
    "node_id",
    "max_connections",
    "max_connections_per_address",
    "max_message",
    "log_format",
];

/// What this node is told.
pub fn config(args: &ServeArgs) -> Result<Config, Failure> {
    build(layers(args)?)
}

/// How this node logs; as people read it where the settings cannot be read, which [`config`] tells.
pub fn log_format(args: &ServeArgs) -> LogFormat {
    layers(args).ok().and_then(|layer| layer.log_format).unwrap_or_default()
}

fn layers(args: &ServeArgs) -> Result<Layer, Failure> {
    let file = args.config.clone().or_else(|| env("config").map(PathBuf::from));
    let mut layers = vec![from_flags(args)?, from_env(env)?];
    if let Some(path) = file {
        layers.push(from_file(&path)?);
    }
    Ok(layers.into_iter().reduce(Layer::or).unwrap_or_default())
}

fn env(key: &str) -> Option<String> {
    std::env::var(format!("TERTULIA_{}", key.to_uppercase())).ok().filter(|text| !text.is_empty())
}

fn from_flags(args: &ServeArgs) -> Result<Layer, Failure> {
    let mut layer = Layer {
        advertise: args.advertise.clone(),
        data: args.data.clone(),
        native_port: args.native_port,
        line_port: args.line_port,
        http_port: args.http_port,
        no_line: args.no_line,
        no_http: args.no_http,
        no_guests: args.no_guests,
        no_register: args.no_register,
        insecure_line_logins: args.insecure_line_logins,
        tls_cert: args.tls_cert.clone(),
        tls_key: args.tls_key.clone(),
        tls_self: args.tls_self,
        max_connections: args.max_connections,
        max_connections_per_address: args.max_connections_per_address,
        ..Layer::default()
    };
    for (key, value) in [
        ("listen", &args.listen),
        ("address", &args.address),
        ("keep", &args.keep),
        ("engine", &args.engine),
        ("sync", &args.sync),
        ("node_id", &args.node_id),
        ("max_message", &args.max_message),
        ("log_format", &args.log_format),
    ] {
        if let Some(value) = value {
            let flag = key.replace('_', "-");
            layer.set(key, value).map_err(|why| why.failure(&format!("--{flag}")))?;
        }
    }
    Ok(layer)
}

fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Layer, Failure> {
    let mut layer = Layer::default();
    for key in KEYS {
        if let Some(value) = env(key) {
            let variable = format!("TERTULIA_{}", key.to_uppercase());
            layer.set(key, &value).map_err(|why| why.failure(&variable))?;
        }
    }
    Ok(layer)
}

fn from_file(path: &Path) -> Result<Layer, Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::io(&format!("cannot read {shown}"), &error))?;
    from_toml(&text).map_err(|why| why.failure(&shown.to_string()))
}

fn from_toml(text: &str) -> Result<Layer, Wrong> {
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| Wrong::Value(error.to_string()))?;
    let mut layer = Layer::default();
    for (written, value) in table {
        let key = written.replace('-', "_");
        if !KEYS.contains(&key.as_str()) {
            let near = tertulia_group::name::nearest(&key, KEYS);
            let hint = near.map_or_else(String::new, |near| format!(", did you mean {near}?"));
            return Err(Wrong::Value(format!("there is no setting {written}{hint}")));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(whether) => whether.to_string(),
            _ => return Err(Wrong::Value(format!("{written} is one text, number or true/false"))),
        };
        layer.set(&key, &value).map_err(|why| why.of(&written))?;
    }
    Ok(layer)
}

/// Why a setting is not taken.
#[derive(Debug)]
enum Wrong {
    /// What it says is not a value of it.
    Value(String),
    /// It may be some day.
    Later(String),
}

impl Wrong {
    fn of(self, key: &str) -> Self {
        match self {
            Self::Value(text) => Self::Value(format!("{key}: {text}")),
            Self::Later(text) => Self::Later(format!("{key}: {text}")),
        }
    }

    fn failure(self, place: &str) -> Failure {
        match self.of(place) {
            Self::Value(text) => Failure::usage(text),
            Self::Later(text) => Failure::failed("NOT_SUPPORTED", text),
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Wrong> {
    text.parse().map_err(|_| Wrong::Value(format!("{text:?} is not a number that it may be")))
}

fn whether(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Wrong::Value(format!("{text:?}: write true or false"))),
    }
}

/// An address of this host, by number or by name.
fn address_of(host: &str) -> Result<IpAddr, Wrong> {
    use std::net::ToSocketAddrs as _;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let found = (host, 0).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let wrong = || Wrong::Value(format!("{host:?} is not an address of this host"));
    found.map(|address| address.ip()).ok_or_else(wrong)
}

fn engine(text: &str) -> Result<Engine, Wrong> {
    match text {
        "embedded" => Ok(Engine::Embedded),
        "memory" => Ok(Engine::Memory),
        _ if text.starts_with("nats://") || text.starts_with("tls://") => {
            let text = format!("{text}: nodes on NATS come later; use embedded or memory");
            Err(Wrong::Later(text))
        }
        _ => Err(Wrong::Value(format!("{text:?}: write embedded, memory or nats://…"))),
    }
}

impl Layer {
    fn set(&mut self, key: &str, text: &str) -> Result<(), Wrong> {
        match key {
            "listen" => self.listen = Some(address_of(text)?),
            "address" => {
                let (host, port) = text
                    .rsplit_once(':')
                    .ok_or_else(|| Wrong::Value(format!("{text:?}: write HOST:PORT")))?;
                self.listen = Some(address_of(host)?);
                self.native_port = Some(number(port)?);
            }
            "advertise" => self.advertise = Some(text.to_owned()),
            "data" => self.data = Some(PathBuf::from(text)),
            "native_port" => self.native_port = Some(number(text)?),
            "line_port" => self.line_port = Some(number(text)?),
            "http_port" => self.http_port = Some(number(text)?),
            "no_line" => self.no_line = Some(whether(text)?),
            "no_http" => self.no_http = Some(whether(text)?),
            "no_guests" => self.no_guests = Some(whether(text)?),
            "no_register" => self.no_register = Some(whether(text)?),
            "insecure_line_logins" => self.insecure_line_logins = Some(whether(text)?),
            "tls_cert" => self.tls_cert = Some(PathBuf::from(text)),
            "tls_key" => self.tls_key = Some(PathBuf::from(text)),
            "tls_self" => self.tls_self = Some(whether(text)?),
            "keep" => self.keep = Some(units::keep(text).map_err(Wrong::Value)?),
            "engine" => self.engine = Some(engine(text)?),
            "sync" => {
                self.fsync = Some(match text {
                    "fsync" => true,
                    "os" => false,
                    _ => return Err(Wrong::Value(format!("{text:?}: write fsync or os"))),
                });
            }
            "node_id" => {
                let name = Name::new(text).map_err(|error| Wrong::Value(error.to_string()))?;
                self.node_id = Some(name.to_string());
            }
            "max_connections" => self.max_connections = Some(number(text)?),
            "max_connections_per_address" => {
                self.max_connections_per_address = Some(number(text)?);
            }
            "max_message" => {
                let bytes = units::size(text).map_err(Wrong::Value)?;
                let fits = usize::try_from(bytes).ok().filter(|bytes| *bytes <= MESSAGE_BYTES_MAX);
                let wrong = || Wrong::Value(format!("at most {MESSAGE_BYTES_MAX} bytes"));
                self.max_message = Some(fits.ok_or_else(wrong)?);
            }
            "log_format" => {
                let wrong = || Wrong::Value(format!("{text:?}: write text or json"));
                self.log_format = Some(LogFormat::parse(text).ok_or_else(wrong)?);
            }
            _ => return Err(Wrong::Value(format!("there is no setting {key}"))),
        }
        Ok(())
    }

    fn or(self, weaker: Self) -> Self {
        Self {
            listen: self.listen.or(weaker.listen),
            advertise: self.advertise.or(weaker.advertise),
            data: self.data.or(weaker.data),
            native_port: self.native_port.or(weaker.native_port),
            line_port: self.line_port.or(weaker.line_port),
            http_port: self.http_port.or(weaker.http_port),
            no_line: self.no_line.or(weaker.no_line),
            no_http: self.no_http.or(weaker.no_http),
            no_guests: self.no_guests.or(weaker.no_guests),
            no_register: self.no_register.or(weaker.no_register),
            insecure_line_logins: self.insecure_line_logins.or(weaker.insecure_line_logins),
            tls_cert: self.tls_cert.or(weaker.tls_cert),
            tls_key: self.tls_key.or(weaker.tls_key),
            tls_self: self.tls_self.or(weaker.tls_self),
            keep: self.keep.or(weaker.keep),
            engine: self.engine.or(weaker.engine),
            fsync: self.fsync.or(weaker.fsync),
            node_id: self.node_id.or(weaker.node_id),
            max_connections: self.max_connections.or(weaker.max_connections),
            max_connections_per_address: self
                .max_connections_per_address
                .or(weaker.max_connections_per_address),
            max_message: self.max_message.or(weaker.max_message),
            log_format: self.log_format.or(weaker.log_format),
        }
    }
}

/// Where the certificate comes from, where there is to be TLS.
fn tls(layer: &Layer) -> Result<Option<TlsSource>, Failure> {
    let own = layer.tls_self == Some(true);
    match (layer.tls_cert.clone(), layer.tls_key.clone()) {
        (Some(_), _) | (_, Some(_)) if own => {
            let text = "--tls-self makes a certificate: it goes without --tls-cert and --tls-key \
                        (--tls-self=false takes it back)";
            Err(Failure::usage(text))
        }
        (Some(certificate), Some(key)) => Ok(Some(TlsSource::Files { certificate, key })),
        (Some(_), None) => Err(Failure::usage("--tls-cert needs its key: --tls-key FILE")),
        (None, Some(_)) => Err(Failure::usage("--tls-key needs its certificate: --tls-cert FILE")),
        (None, None) => Ok(own.then_some(TlsSource::Own)),
    }
}

/// What one connection may have under way unstored has to hold the longest message.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

fn build(layer: Layer) -> Result<Config, Failure> {
    let tls = tls(&layer)?;
    let data = match layer.data {
        Some(data) => data,
        None => state::data_folder()?,
    };
    let door = |no: Option<bool>, port: Option<u16>, default| {
        (no != Some(true)).then_some(port.unwrap_or(default))
    };
    let mut limits = NodeLimits::default();
    limits.connections = layer.max_connections.unwrap_or(limits.connections);
    limits.connections_per_address =
        layer.max_connections_per_address.unwrap_or(limits.connections_per_address);
    let mut group_limits = Limits::default();
    group_limits.message_bytes_max = layer.max_message.unwrap_or(group_limits.message_bytes_max);
    Ok(Config {
        listen: layer.listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        advertise: layer.advertise,
        data,
        native_port: door(None, layer.native_port, NATIVE_PORT),
        line_port: door(layer.no_line, layer.line_port, LINE_PORT),
        http_port: door(layer.no_http, layer.http_port, HTTP_PORT),
        guests: layer.no_guests != Some(true),
        accounts: AccountRules {
            open_registration: layer.no_register != Some(true),
            line_logins_anywhere: layer.insecure_line_logins == Some(true),
        },
        tls,
        keep: layer.keep.unwrap_or_default(),
        engine: layer.engine.unwrap_or(Engine::Embedded),
        fsync: layer.fsync.unwrap_or(true),
        node_id: layer.node_id.unwrap_or_else(names::host),
        limits,
        group_limits,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_underscores_or_dashes() {
        let text = "listen = \"0.0.0.0\"\nnative-port = 0\nno_line = true\nkeep = \"7d,1GiB\"";
        let layer = from_toml(text).unwrap();
        assert_eq!(layer.listen, Some("0.0.0.0".parse().unwrap()));
        assert_eq!((layer.native_port, layer.no_line), (Some(0), Some(true)));
        assert_eq!(layer.keep.map(|keep| keep.bytes), Some(1 << 30));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        for (text, named) in [
            ("lissen = \"::\"", "did you mean listen?"),
            ("native_port = 70000", "native_port"),
            ("no_line = \"perhaps\"", "no_line"),
            ("keep = [1]", "keep"),
            ("keep = \"x\"", "--keep 30d,10GiB"),
            ("listen = ", "line 1"),
            ("engine = \"nats://h:4222\"", "come later"),
        ] {
            let failure = from_toml(text).unwrap_err().failure("node.toml");
            assert!(failure.message().contains(named), "{text}: {}", failure.message());
        }
    }

    #[test]
    fn a_stronger_place_wins_also_where_the_address_is_written_in_one() {
        let flags = ServeArgs { listen: Some("0.0.0.0".into()), ..ServeArgs::default() };
        let env = |key: &str| match key {
            "address" => Some("127.0.0.2:7001".to_owned()),
            "line_port" => Some("7000".to_owned()),
            _ => None,
        };
        let file = from_toml("native_port = 1\nline_port = 2\nsync = \"os\"").unwrap();
        let layer = from_flags(&flags).unwrap().or(from_env(env).unwrap()).or(file);
        let config = build(Layer { data: Some("d".into()), ..layer }).unwrap();
        assert_eq!(config.listen, "0.0.0.0".parse::<IpAddr>().unwrap());
        assert_eq!((config.native_port, config.line_port), (Some(7001), Some(7000)));
        assert!(!config.fsync && config.guests);
    }
}
