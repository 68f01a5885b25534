//! Connections that cannot be hogged: each ends after a while, and when there are too many the oldest goes.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections at the same time. Every answer takes a moment, so only clients that dawdle get there.
const MOST: usize = 64;
/// How long a connection lives, however busy it is; a client simply makes another.
const LIFETIME: Duration = Duration::from_secs(60);

/// A listener whose connections are bounded in number and in time.
pub(super) struct Lines<L> {
    listener: L,
    open: Open,
    next: u64,
}

impl<L> Lines<L> {
    pub(super) fn new(listener: L) -> Self {
        Self { listener, open: Open::default(), next: 0 }
    }

    /// Its connections, which live on when it is gone.
    pub(super) fn open(&self) -> Open {
        self.open.clone()
    }
}

/// What ends each open connection, oldest first.
#[derive(Clone, Default)]
pub(super) struct Open(Arc<Mutex<VecDeque<(u64, CancellationToken)>>>);

impl Open {
    /// Ends all connections.
    pub(super) fn end(&self) {
        self.list().drain(..).for_each(|(_, line)| line.cancel());
    }

    /// Makes room for a connection and answers what ends it.
    fn enter(&self, number: u64) -> CancellationToken {
        let (mut open, end) = (self.list(), CancellationToken::new());
        while open.len() >= MOST {
            open.pop_front().into_iter().for_each(|(_, oldest)| oldest.cancel());
        }
        open.push_back((number, end.clone()));
        end
    }

    fn leave(&self, number: u64) {
        self.list().retain(|(one, _)| *one != number);
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<(u64, CancellationToken)>> {
        self.0.lock().expect("no holder of the list panics")
    }
}

impl<L: Listener> Listener for Lines<L> {
    type Io = Line<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, L::Addr) {
        let (stream, address) = self.listener.accept().await;
        let (number, open) = (self.next, self.open());
        self.next += 1;
        let end = open.enter(number);
        tokio::spawn({
            let end = end.clone();
            async move {
                if tokio::time::timeout(LIFETIME, end.cancelled()).await.is_err() {
                    end.cancel();
                }
            }
        });
        let ended = Box::pin(end.clone().cancelled_owned());
        (Line { stream, number, open, end, ended }, address)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// One connection, until it is told to end.
pub(super) struct Line<S> {
    stream: S,
    number: u64,
    open: Open,
    end: CancellationToken,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Line<S> {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S> Drop for Line<S> {
    fn drop(&mut self) {
        self.end.cancel();
        self.open.leave(self.number);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Line<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
