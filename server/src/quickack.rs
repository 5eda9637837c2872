//! TCP_NODELAY and TCP_QUICKACK on accepted sockets.
//!
//! A client that sends headers and body as two writes without TCP_NODELAY (Chalk's Python client does) has its second write
//! held back by Nagle's algorithm until the first is acknowledged, and Linux delays that for 40 ms. TCP_QUICKACK sends the
//! acknowledgement at once, but the kernel leaves that mode by itself, so it is set again for every request.

use std::{
    any::Any,
    os::fd::{AsFd, OwnedFd},
};

use actix_web::{dev::Extensions, rt::net::TcpStream};

/// The socket of a connection: a duplicate, so that it stays valid for as long as the connection's data does.
pub(crate) struct QuickAck(OwnedFd);

impl QuickAck {
    /// Acknowledge now what has been received, and for a while whatever comes.
    pub(crate) fn arm(&self) {
        arm(&self.0);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn arm(socket: &impl AsFd) {
    // Fails only on a socket that is going away.
    let _ = socket2::SockRef::from(socket).set_tcp_quickack(true);
}
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn arm(_: &impl AsFd) {}

/// For `HttpServer::on_connect`.
pub(crate) fn on_connect(connection: &dyn Any, data: &mut Extensions) {
    let Some(stream) = connection.downcast_ref::<TcpStream>() else { return };
    // Both only cost time if they fail, and a failure means that the client has gone.
    let _ = stream.set_nodelay(true);
    arm(stream);
    if let Ok(socket) = stream.as_fd().try_clone_to_owned() {
        data.insert(QuickAck(socket));
    }
}
