//! Ctrl-C and SIGTERM: the first asks for a clean end, a later one ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::failure::{Exit, Failure};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Stop {
    /// How a clean end after it counts: 130 after Ctrl-C.
    pub const fn exit(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Done,
        }
    }
}

/// Tells when to stop. Clones see the same.
#[derive(Clone)]
pub struct Signals {
    asked: watch::Receiver<Option<Stop>>,
    noticed: Arc<AtomicBool>,
}

/// A command that has not noticed by then is stuck in writing its output, and is ended.
const NOTICE_WITHIN: Duration = Duration::from_secs(2);

/// One wish to stop may come as two signals: `timeout -s INT` tells the program, and then its whole group.
const TOGETHER: Duration = Duration::from_millis(500);

impl Signals {
    /// Listens from now on; to be called within the runtime.
    pub fn listen() -> Result<Self, Failure> {
        Self::listen_and(|| {})
    }

    /// The same; `at_once` is done before an end that is not clean.
    pub fn listen_and(at_once: fn()) -> Result<Self, Failure> {
        let (asking, asked) = watch::channel(None);
        let noticed = Arc::new(AtomicBool::new(false));
        let mut source =
            Source::new().map_err(|error| Failure::io("cannot listen for signals", &error))?;
        let seen = Arc::clone(&noticed);
        tokio::spawn(async move {
            let first = source.next().await;
            asking.send_replace(Some(first));
            let second = tokio::select! {
                second = source.again() => second,
                () = not_noticed(&seen) => first,
            };
            at_once();
            let code = match second {
                Stop::Interrupt => Exit::Interrupted.code(),
                Stop::Terminate => 143,
            };
            std::process::exit(code.into());
        });
        Ok(Self { asked, noticed })
    }

    /// Waits until it is time to stop.
    pub async fn stopped(&mut self) -> Stop {
        let asked = self.asked.wait_for(Option::is_some).await.ok().and_then(|stop| *stop);
        self.noticed.store(true, Ordering::Relaxed);
        match asked {
            Some(stop) => stop,
            // The listener has gone: nobody will ask.
            None => std::future::pending().await,
        }
    }
}

impl Source {
    /// The next one that is no echo of one that has just come.
    async fn again(&mut self) -> Stop {
        let until = Instant::now() + TOGETHER;
        loop {
            let stop = self.next().await;
            if Instant::now() >= until {
                return stop;
            }
        }
    }
}

async fn not_noticed(noticed: &AtomicBool) {
    tokio::time::sleep(NOTICE_WITHIN).await;
    if noticed.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
struct Source {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Stop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
        Stop::Interrupt
    }
}

/// SIGHUP, where somebody listens: by itself it ends the process.
pub struct Hangups(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangups {
    /// Listens from now on, where it `listens`; to be called within the runtime.
    #[cfg(unix)]
    pub fn listen(listens: bool) -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = listens.then(|| signal(SignalKind::hangup())).transpose();
        signal.map(Self).map_err(|error| Failure::io("cannot listen for signals", &error))
    }

    /// There are none here.
    #[cfg(not(unix))]
    pub fn listen(_: bool) -> Result<Self, Failure> {
        Ok(Self())
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
