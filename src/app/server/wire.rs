//! A connection's bytes: reads are metered, writes must complete in time, and closing leaves the
//! last response time to arrive.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_io_timeout::TimeoutStream;

use crate::kernel::limits;
use crate::transport::connections::ConnectionPermit;

pub(super) struct MeteredStream {
    stream: Pin<Box<TimeoutStream<TcpStream>>>,
    permit: ConnectionPermit,
    /// Set while the connection closes: the remaining time and number of bytes still read and
    /// discarded.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl MeteredStream {
    pub(super) fn new(stream: TcpStream, permit: ConnectionPermit) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(limits::SOCKET_WRITE));
        Self { stream: Box::pin(stream), permit, linger: None }
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.stream.as_mut().poll_read(cx, buffer))?;
        Poll::Ready(self.permit.read(buffer.filled().len() - before))
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(cx)
    }

    /// Closes the write side, then discards input until the client closes its side, within limits.
    /// Closing a socket with unread data sends a reset, which destroys the response for a client
    /// that is still writing: a client rejected before its body was read would never see the
    /// reason.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(this.stream.as_mut().poll_shutdown(cx))?;
        }
        let (time, left) = this.linger.get_or_insert_with(|| (Box::pin(sleep(limits::LINGER)), limits::LINGER_BYTES));
        let mut discarded = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            match this.stream.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => match left.checked_sub(buffer.filled().len()) {
                    Some(remaining) => *left = remaining,
                    None => return Poll::Ready(Ok(())),
                },
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return time.as_mut().poll(cx).map(Ok),
            }
        }
    }
}
