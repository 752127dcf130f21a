//! nginx with TLS 1.3 and one worker, and curl.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::{Run, timed};
use crate::process::Process;

/// Connections of curl at once, where it fetches in parallel.
const PARALLEL: &str = "16";
/// How long nginx may take until it listens.
const READY_WAIT: Duration = Duration::from_secs(10);

/// Serves a folder; ends with this.
pub struct Nginx {
    process: Process,
    port: u16,
    home: PathBuf,
}

impl Nginx {
    /// Starts it with everything of its own in `home`.
    pub fn start(home: &Path, served: &Path) -> Result<Self> {
        let home = home.join("nginx");
        std::fs::create_dir(&home)?;
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        std::fs::write(home.join("cert.pem"), made.cert.pem())?;
        std::fs::write(home.join("key.pem"), made.signing_key.serialize_pem())?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let (at, served) = (home.display(), served.display());
        let mut config = format!(
            "daemon off; master_process off; worker_processes 1;\npid {at}/pid; error_log stderr error;\nevents {{ }}\n\
             http {{\n  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n"
        );
        for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(config, "  {what}_temp_path {at}/{what};")?;
        }
        write!(
            config,
            "  server {{\n    listen 127.0.0.1:{port} ssl;\n    ssl_protocols TLSv1.3;\n    ssl_certificate {at}/cert.pem; \
             ssl_certificate_key {at}/key.pem;\n    root {served};\n  }}\n}}\n"
        )?;
        std::fs::write(home.join("nginx.conf"), config)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(home.join("nginx.conf")).arg("-p").arg(&home);
        let process = Process::start(&mut command)
            .context("nginx is not installed (Debian: apt-get install nginx)")?;
        let nginx = Self { process, port, home };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begun.elapsed() < READY_WAIT, "nginx does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }

    fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "--cacert"]).arg(self.home.join("cert.pem"));
        command
    }

    fn url(&self, name: &str) -> String {
        format!("https://127.0.0.1:{}/{name}", self.port)
    }

    /// One file.
    pub fn fetch(&self, name: &str, to: &Path) -> Result<Run> {
        let mut command = self.curl();
        command.arg("-o").arg(to).arg(self.url(name));
        self.timed(command)
    }

    /// One file that is on the disk and verified in the end, as somebody would do it with the usual tools.
    pub fn fetch_surely(&self, name: &str, to: &Path) -> Result<Run> {
        let mut command = Command::new("sh");
        let script = "\"$@\" && sha256sum \"$0\" >&2 && sync \"$0\"";
        let curl = self.curl();
        command.args(["-c", script]).arg(to).arg(curl.get_program()).args(curl.get_args());
        command.arg("-o").arg(to).arg(self.url(name));
        self.timed(command)
    }

    fn timed(&self, command: Command) -> Result<Run> {
        timed(command, std::slice::from_ref(&self.process), &[])
    }

    /// Many files, by one process.
    pub fn fetch_many(&self, names: &[String], to: &Path, parallel: bool) -> Result<Run> {
        let command = self.many(names, to, parallel)?;
        self.timed(command)
    }

    /// Many files that are on the disk and verified in the end.
    pub fn fetch_many_surely(&self, names: &[String], to: &Path) -> Result<Run> {
        let mut command = Command::new("sh");
        let script = "\"$@\" && cd \"$0\" && sha256sum * >&2 && sync . *";
        let curl = self.many(names, to, true)?;
        command.args(["-c", script]).arg(to).arg(curl.get_program()).args(curl.get_args());
        self.timed(command)
    }

    fn many(&self, names: &[String], to: &Path, parallel: bool) -> Result<Command> {
        std::fs::create_dir(to)?;
        let list = self.home.join("list");
        let mut text = String::new();
        for name in names {
            let base = name.rsplit('/').next().unwrap_or(name);
            writeln!(
                text,
                "url = \"{}\"\noutput = \"{}\"",
                self.url(name),
                to.join(base).display()
            )?;
        }
        std::fs::write(&list, text)?;
        let mut command = self.curl();
        if parallel {
            command.args(["--parallel", "--parallel-max", PARALLEL]);
        }
        command.arg("-K").arg(&list);
        Ok(command)
    }
}
