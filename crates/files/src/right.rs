//! The right to fetch contents: a capability ends after minutes, a fetch may take hours, so another one is asked for in time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tonic::codegen::http::HeaderValue;

use crate::limits::NODE_WAIT;

/// A capability that is this old is about to end: the node gives it ten minutes.
const OLD: Duration = Duration::from_secs(300);
/// Between two times that another one is asked for.
const ASK_PAUSE: Duration = Duration::from_secs(10);

/// Asks the node for another capability; `None` where it gives none.
pub type Asking = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// See the module.
pub struct Right {
    ask: Box<dyn Fn() -> Asking + Send + Sync>,
    held: Mutex<Held>,
    /// One asks at a time.
    asking: tokio::sync::Mutex<()>,
}

struct Held {
    /// `Bearer …`; none where what the node gave is no header.
    bearer: Option<HeaderValue>,
    since: Instant,
    asked: Option<Instant>,
}

impl std::fmt::Debug for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Right").finish_non_exhaustive()
    }
}

impl Right {
    /// A capability that the node has given just now, and how another one is asked for.
    pub fn new(capability: &str, ask: impl Fn() -> Asking + Send + Sync + 'static) -> Arc<Self> {
        let held = Held { bearer: header(capability), since: Instant::now(), asked: None };
        Arc::new(Self { ask: Box::new(ask), held: Mutex::new(held), asking: Default::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What holders are shown; another one where it is old, as soon as the node gives one.
    pub(crate) async fn bearer(&self) -> Option<HeaderValue> {
        let (bearer, is_old) = {
            let held = self.held();
            (held.bearer.clone(), held.since.elapsed() >= OLD)
        };
        // Whoever comes while somebody asks goes on with the old one, which is good for a while.
        match is_old.then(|| self.asking.try_lock()) {
            Some(Ok(_asking)) => self.renew().await.or(bearer),
            _ => bearer,
        }
    }

    /// A holder does not take what it was shown (any more): another one, where there is one.
    pub(crate) async fn other_than(&self, shown: &HeaderValue) -> Option<HeaderValue> {
        let _asking = self.asking.lock().await;
        let bearer = self.held().bearer.clone();
        match bearer.filter(|bearer| bearer != shown) {
            Some(other) => Some(other),
            None => self.renew().await.filter(|bearer| bearer != shown),
        }
    }

    async fn renew(&self) -> Option<HeaderValue> {
        {
            let mut held = self.held();
            if held.asked.is_some_and(|asked| asked.elapsed() < ASK_PAUSE) {
                return None;
            }
            held.asked = Some(Instant::now());
        }
        // Somebody who does not answer keeps nobody from going on with what there is.
        let asked = tokio::time::timeout(NODE_WAIT, (self.ask)()).await;
        let bearer = header(&asked.ok()??)?;
        let mut held = self.held();
        (held.bearer, held.since) = (Some(bearer.clone()), Instant::now());
        Some(bearer)
    }
}

fn header(capability: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("Bearer {capability}")).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Numbered capabilities; the node is silent while `asked` is not to be answered.
    fn numbered(asked: &Arc<AtomicUsize>, gives: fn(usize) -> bool) -> Arc<Right> {
        let asked = Arc::clone(asked);
        Right::new("0", move || {
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move { gives(number).then(|| number.to_string()) })
        })
    }

    #[tokio::test(start_paused = true)]
    async fn another_one_is_asked_for_before_the_old_one_ends_and_not_too_often() {
        let asked = Arc::new(AtomicUsize::new(0));
        let right = numbered(&asked, |number| number != 1);
        let shown = async || right.bearer().await.unwrap().to_str().unwrap().to_owned();
        assert_eq!(shown().await, "Bearer 0");
        tokio::time::advance(OLD).await;
        // The node gives none: the old one is good for a while, and it is not asked at every request.
        assert_eq!(shown().await, "Bearer 0");
        assert_eq!(shown().await, "Bearer 0");
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(ASK_PAUSE).await;
        assert_eq!(shown().await, "Bearer 2");
        assert_eq!(shown().await, "Bearer 2");
        tokio::time::advance(OLD).await;
        assert_eq!(shown().await, "Bearer 3");
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_holder_refuses_is_asked_for_again_once_by_however_many() {
        let asked = Arc::new(AtomicUsize::new(0));
        let right = numbered(&asked, |_| true);
        let first = right.bearer().await.unwrap();
        let others = futures_util::future::join_all((0..8).map(|_| right.other_than(&first))).await;
        assert!(others.iter().all(|other| other.as_ref().unwrap() == "Bearer 1"));
        // Who refuses that one, too, does not take the node's word.
        let second = right.bearer().await.unwrap();
        assert_eq!(right.other_than(&second).await, None);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
