//! Wakes one task, from any thread or from its own: a flag and its waker, on no list that the task would have to be taken off again.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;

/// See the module. Of several tasks that wait, only the one that began last is woken.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    is_due: AtomicBool,
    waker: AtomicWaker,
}

impl Wake {
    /// Ends the wait that there is, or else the next one.
    pub fn wake(&self) {
        if !self.is_due.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// There is nothing to wake for any more.
    pub fn forget(&self) {
        self.is_due.store(false, Ordering::Release);
    }

    /// Whether the next wait ends at once.
    #[cfg(test)]
    pub fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Acquire)
    }

    /// Whether it was woken since the last time. Mostly not, and that is seen without writing.
    pub fn take(&self) -> bool {
        self.is_due.load(Ordering::Acquire) && self.is_due.swap(false, Ordering::AcqRel)
    }

    /// Waits for [`Wake::wake`]; several calls of it since the last wait are one.
    pub async fn woken(&self) {
        poll_fn(|cx| self.poll_woken(cx)).await;
    }

    /// The same, for who waits for several things.
    pub fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        if self.take() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        // Who came in between has found no waker, or the one before.
        if self.take() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The same for one thread, without anything that is for several: it is woken for each acknowledgement.
#[derive(Debug, Default)]
pub(crate) struct LocalWake {
    is_due: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl LocalWake {
    /// Ends the wait that there is, or else the next one.
    pub fn wake(&self) {
        if !self.is_due.replace(true) {
            let waker = self.waker.take();
            waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Waits for [`LocalWake::wake`]; several calls of it since the last wait are one.
    pub fn poll_woken(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_due.replace(false) {
            return Poll::Ready(());
        }
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;

    /// A lost wake-up would leave the test waiting for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_call_is_lost_whenever_it_comes() {
        let (here, there) = (Arc::new(Wake::default()), Arc::new(Wake::default()));
        let answers = tokio::spawn({
            let (here, there) = (Arc::clone(&here), Arc::clone(&there));
            async move {
                for _ in 0..20_000 {
                    there.woken().await;
                    here.wake();
                }
            }
        });
        let asks = async {
            for _ in 0..20_000 {
                there.wake();
                here.woken().await;
            }
        };
        tokio::time::timeout(crate::testing::PATIENCE, asks).await.expect("each is answered");
        answers.await.expect("it ends");
    }

    #[tokio::test(flavor = "local")]
    async fn within_a_thread_too_no_call_is_lost_and_two_are_one() {
        let (here, at_once) = (Rc::new(LocalWake::default()), std::time::Duration::ZERO);
        here.wake();
        here.wake();
        poll_fn(|cx| here.poll_woken(cx)).await;
        assert!(tokio::time::timeout(at_once, poll_fn(|cx| here.poll_woken(cx))).await.is_err());
        // A task of its own: only the call can let it go on.
        let wait = Rc::clone(&here);
        let woken = tokio::task::spawn_local(async move {
            poll_fn(|cx| wait.poll_woken(cx)).await;
        });
        tokio::task::yield_now().await;
        here.wake();
        let woken = tokio::time::timeout(crate::testing::PATIENCE, woken).await;
        woken.expect("it is woken").expect("it ends");
    }

    #[tokio::test]
    async fn a_call_before_the_wait_ends_it_and_two_are_one() {
        let wake = Wake::default();
        wake.wake();
        wake.wake();
        wake.woken().await;
        let at_once = std::time::Duration::ZERO;
        assert!(tokio::time::timeout(at_once, wake.woken()).await.is_err());
        wake.wake();
        assert!(tokio::time::timeout(at_once, wake.woken()).await.is_ok());
    }
}
