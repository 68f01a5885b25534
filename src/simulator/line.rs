//! TCP connections that can be cut: after some bytes, at once, or at the door.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// The hand on one connection.
#[derive(Clone, Debug)]
pub struct Cutter {
    /// Bytes that may still be written; `usize::MAX` is no limit.
    allowance: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
}

impl Cutter {
    /// Lets so many bytes more through and then resets the connection.
    pub fn cut_after(&self, bytes: usize) {
        self.allowance.store(bytes, Ordering::Release);
    }

    fn is_cut(&self) -> bool {
        self.allowance.load(Ordering::Acquire) == 0 || self.closed.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, Door>> for Cutter {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The listener: connections made while `closed` is set are reset, and those made before with them.
pub struct Door {
    pub listener: TcpListener,
    pub closed: Arc<AtomicBool>,
}

impl Listener for Door {
    type Io = Line;
    type Addr = Cutter;

    async fn accept(&mut self) -> (Line, Cutter) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if self.closed.load(Ordering::Acquire) => reset(&stream),
                Ok((stream, _)) => {
                    let allowance = Arc::new(AtomicUsize::new(usize::MAX));
                    let cutter = Cutter { allowance, closed: self.closed.clone() };
                    return (Line { stream, cutter: cutter.clone() }, cutter);
                }
                // Out of file descriptors, most likely: others must end first.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Cutter> {
        Ok(Cutter { allowance: Arc::default(), closed: self.closed.clone() })
    }
}

/// Makes the coming close of a connection a reset instead of an orderly end.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a simulated reset becomes an orderly close");
    }
}

/// One connection, as long as its hand allows.
pub struct Line {
    stream: TcpStream,
    cutter: Cutter,
}

impl Line {
    fn broken(&self) -> io::Error {
        reset(&self.stream);
        io::ErrorKind::ConnectionReset.into()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(_) if self.cutter.is_cut() => Poll::Ready(Err(self.broken())),
            polled => polled,
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.cutter.is_cut() {
            return Poll::Ready(Err(self.broken()));
        }
        let allowed = self.cutter.allowance.load(Ordering::Acquire);
        let part = &bytes[..bytes.len().min(allowed)];
        let polled = Pin::new(&mut self.stream).poll_write(context, part);
        if let (Poll::Ready(Ok(written)), true) = (&polled, allowed != usize::MAX) {
            self.cutter.allowance.store(allowed - written, Ordering::Release);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The address on this machine only.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
