//! The stream under a session: a socket, or TLS over one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_rustls::client::TlsStream as Tls;

use super::certificate::Certificate;

/// What a session talks over.
#[derive(Debug)]
pub enum Wire {
    /// A Unix socket.
    Unix(UnixStream),
    /// A network without encryption.
    Tcp(TcpStream),
    /// A network with it.
    Tls(Box<Tls<TcpStream>>),
}

impl Wire {
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

macro_rules! each {
    ($wire:expr, $method:ident $(, $argument:expr)*) => {
        match $wire.get_mut() {
            Wire::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Wire::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Wire::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_read, cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, poll_write, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_shutdown, cx)
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        let Self::Tls(stream) = self else { return ChannelBinding::none() };
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let end_point = certificates.first().and_then(|der| Certificate::read(der)?.end_point(der));
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// Tells the driver that the encryption stands already.
pub(super) struct Encrypted;

impl TlsConnect<Wire> for Encrypted {
    type Stream = Wire;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Wire>>;

    fn connect(self, wire: Wire) -> Self::Future {
        std::future::ready(Ok(wire))
    }
}
