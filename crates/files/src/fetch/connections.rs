//! Connections to holders: one to each for everything that is fetched together, made when it is first needed.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tonic::codegen::http::Uri;
use tonic::transport::Channel;

use super::source::{Failed, Holder, endpoint};
use crate::identity::{Fingerprint, Identity};
use crate::limits::CONNECT_WAIT;
use crate::tls;

/// Who could not be reached, or was silent, is not tried for the next content before so long.
const FAILED_KEPT: Duration = Duration::from_secs(10);

/// See the module. Shared by all that fetch with one certificate.
#[derive(Debug)]
pub struct Connections {
    identity: Arc<Identity>,
    known: Mutex<HashMap<(Fingerprint, String), Arc<Known>>>,
}

#[derive(Debug)]
struct Known {
    /// Locked while it is being connected to: once, however many ask.
    state: tokio::sync::Mutex<State>,
    /// Contents that are being fetched from it.
    busy: AtomicUsize,
}

#[derive(Debug)]
struct State {
    /// How many connections there have been.
    number: u64,
    now: Now,
}

#[derive(Debug)]
enum Now {
    Nothing,
    There(Channel),
    Failed(Failed, Instant),
}

/// A connection to one holder, which counts as busy as long as this is kept.
#[derive(Debug)]
pub(super) struct Connection {
    pub channel: Channel,
    number: u64,
    /// It was made for this; one that was there may have broken meanwhile.
    pub is_new: bool,
    known: Arc<Known>,
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        self.known.busy.fetch_add(1, Ordering::Relaxed);
        let (channel, known) = (self.channel.clone(), Arc::clone(&self.known));
        Self { channel, known, ..*self }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.known.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connections {
    /// None yet; holders are shown this certificate.
    pub fn new(identity: Arc<Identity>) -> Arc<Self> {
        Arc::new(Self { identity, known: Mutex::default() })
    }

    /// What holders are shown.
    pub const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    fn known(&self, holder: &Holder) -> Arc<Known> {
        let key = (holder.fingerprint, holder.address.clone());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let state = State { number: 0, now: Now::Nothing };
        let new = Known { state: tokio::sync::Mutex::new(state), busy: AtomicUsize::new(0) };
        Arc::clone(known.entry(key).or_insert_with(|| Arc::new(new)))
    }

    /// How many contents are being fetched from a holder.
    pub(super) fn busy(&self, holder: &Holder) -> usize {
        self.known(holder).busy.load(Ordering::Relaxed)
    }

    /// The connection to a holder, which is the one that the node vouches for.
    ///
    /// # Errors
    /// [`Failed`]: now, or a moment ago for another content.
    pub(super) async fn get(&self, holder: &Holder) -> Result<Connection, Failed> {
        let known = self.known(holder);
        let mut state = known.state.lock().await;
        let (channel, is_new) = match &state.now {
            Now::There(channel) => (channel.clone(), false),
            Now::Failed(why, since) if since.elapsed() < FAILED_KEPT => return Err(why.clone()),
            _ => (self.connect(holder, &mut state).await?, true),
        };
        let number = state.number;
        drop(state);
        Ok(connection(channel, number, is_new, known))
    }

    /// Another connection where this one has broken; the one that somebody else has made meanwhile.
    ///
    /// # Errors
    /// [`Failed::Unreachable`]
    pub(super) async fn instead(
        &self,
        broken: &Connection,
        holder: &Holder,
    ) -> Result<Connection, Failed> {
        let mut state = broken.known.state.lock().await;
        if state.number == broken.number {
            state.now = Now::Nothing;
        }
        drop(state);
        self.get(holder).await
    }

    /// A holder was given up by who asked it over this connection: where it was silent, nobody waits for it again for a while;
    /// else it is connected to anew. A newer connection, which somebody else has made meanwhile, stays.
    pub(super) async fn failed(&self, asked: &Connection, why: &Failed) {
        let now = match why {
            Failed::Silent => Now::Failed(why.clone(), Instant::now()),
            Failed::Unreachable(_) => Now::Nothing,
            _ => return,
        };
        let mut state = asked.known.state.lock().await;
        if state.number == asked.number && matches!(state.now, Now::There(_)) {
            state.now = now;
        }
    }

    /// A holder is said to be there again.
    pub(super) async fn again(&self, holder: &Holder) {
        let known = self.known(holder);
        let mut state = known.state.lock().await;
        if matches!(state.now, Now::Failed(..)) {
            state.now = Now::Nothing;
        }
    }

    async fn connect(&self, holder: &Holder, state: &mut State) -> Result<Channel, Failed> {
        let connected = connect(holder, &self.identity).await;
        state.number += 1;
        state.now = match &connected {
            Ok(channel) => Now::There(channel.clone()),
            Err(why) => Now::Failed(why.clone(), Instant::now()),
        };
        connected
    }
}

fn connection(channel: Channel, number: u64, is_new: bool, known: Arc<Known>) -> Connection {
    known.busy.fetch_add(1, Ordering::Relaxed);
    Connection { channel, number, is_new, known }
}

async fn connect(holder: &Holder, identity: &Identity) -> Result<Channel, Failed> {
    let unreachable = |error: &dyn std::fmt::Display| Failed::Unreachable(error.to_string());
    let config =
        tls::client_config(identity, holder.fingerprint).map_err(|error| unreachable(&error))?;
    let shaken = async {
        let stream = TcpStream::connect(&holder.address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(tls::server_name(), stream).await
    };
    let stream = timeout(CONNECT_WAIT, shaken).await;
    let stream = stream.map_err(|_| Failed::Unreachable("it does not answer".to_owned()))?;
    let mut stream = Some(TokioIo::new(stream.map_err(|error| unreachable(&error))?));
    // The one connection that was made; another one would be another try.
    let connector = tower::service_fn(move |_: Uri| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    let channel = endpoint().connect_with_connector(connector).await;
    channel.map_err(|error| unreachable(&error))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A holder that takes every connection and says nothing.
    async fn holder() -> Holder {
        let identity = Identity::ephemeral().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let acceptor = TlsAcceptor::from(tls::server_config(&identity).unwrap());
        tokio::spawn(async move {
            let mut taken = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                taken.push(acceptor.accept(stream).await);
            }
        });
        let fingerprint = identity.fingerprint();
        let (user, name) = ("ana".to_owned(), "a.txt".to_owned());
        Holder { user, address, fingerprint, name, size: 1, unfinished: false }
    }

    #[tokio::test]
    async fn who_gives_up_a_connection_takes_away_that_one_and_not_a_newer_one() {
        let (holder, identity) = (holder().await, Arc::new(Identity::ephemeral().unwrap()));
        let connections = Connections::new(identity);
        let is_new = async || connections.get(&holder).await.map(|connection| connection.is_new);
        let gone = Failed::Unreachable("it has broken".to_owned());

        let first = connections.get(&holder).await.unwrap();
        let late = first.clone();
        let second = connections.instead(&first, &holder).await.unwrap();
        assert!(first.is_new && second.is_new);
        // Who was on the first one learns of it only now.
        for why in [&gone, &Failed::Silent] {
            connections.failed(&late, why).await;
            assert_eq!(is_new().await, Ok(false), "{why}");
        }
        connections.failed(&second, &gone).await;
        let third = connections.get(&holder).await.unwrap();
        assert!(third.is_new, "the one that was given up is not used again");

        connections.failed(&third, &Failed::Silent).await;
        assert_eq!(is_new().await, Err(Failed::Silent));
        // It is said to be there again, and is; who knows of the silence only now changes nothing.
        connections.again(&holder).await;
        assert_eq!(is_new().await, Ok(true));
        connections.failed(&third, &Failed::Silent).await;
        assert_eq!(is_new().await, Ok(false));
    }
}
