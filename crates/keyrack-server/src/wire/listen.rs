//! Taking the sockets: one of each address for every thread, and one Unix socket for all of them.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_socket, listen, socket_with, sockopt,
};

use super::Peer;
use super::connection::Stream;

/// How many connections the system keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// Who may use the socket file: the owner and the group.
const SOCKET_MODE: u32 = 0o660;

/// Either kind of listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// Lets one in, if there is one.
    pub(super) fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                // A reply is written whole; waiting for more of it would only hold it back.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::Address(address.ip().to_canonical())))
            }
            Self::Unix(listener) => Ok((Stream::Unix(listener.accept()?.0), Peer::Unix)),
        }
    }

    /// The socket as the event loop knows it.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(listener) => listener,
            Self::Unix(listener) => listener,
        }
    }
}

/// Every socket that was asked for.
#[derive(Debug)]
pub struct Bound {
    /// For each thread its sockets.
    pub(super) sets: Vec<Vec<Listener>>,
    /// The TCP address, with the port that was taken.
    pub(super) address: Option<SocketAddr>,
    /// The file of the Unix socket.
    pub(super) socket_file: Option<SocketFile>,
}

impl Bound {
    /// The TCP address, with the port that was taken.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

/// Takes the sockets for so many threads.
///
/// # Errors
/// An address or a socket file cannot be had; the text says which.
pub(super) fn bind(tcp: Option<SocketAddr>, unix: Option<&Path>, threads: usize) -> io::Result<Bound> {
    let mut bound = Bound { sets: (0..threads).map(|_| Vec::new()).collect(), address: None, socket_file: None };
    if let Some(asked) = tcp {
        let failed = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {asked}: {error}"));
        let address = find_free(asked).map_err(failed)?;
        for set in &mut bound.sets {
            set.push(Listener::Tcp(listen_tcp(address).map_err(failed)?));
        }
        bound.address = Some(address);
    }
    if let Some(path) = unix {
        let failed =
            |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()));
        let (first, file) = listen_unix(path).map_err(failed)?;
        bound.socket_file = Some(file);
        for set in &mut bound.sets {
            set.push(Listener::Unix(UnixListener::from_std(first.try_clone().map_err(failed)?)));
        }
    }
    Ok(bound)
}

fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

/// The address with its port, if nobody listens there. Sockets that share a port would let a second server in beside the
/// first, unseen, so the port is first asked for alone.
fn find_free(asked: SocketAddr) -> io::Result<SocketAddr> {
    let socket = tcp_socket(asked)?;
    bind_socket(&socket, &asked)?;
    listen(&socket, 1)?;
    std::net::TcpListener::from(socket).local_addr()
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_socket(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind_socket(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn listen_unix(path: &Path) -> io::Result<(StdUnixListener, SocketFile)> {
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    bind_socket(&socket, &SocketAddrUnix::new(path)?)?;
    // Nobody gets in between: it does not listen yet.
    let file = SocketFile::at(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    listen(&socket, BACKLOG)?;
    Ok((socket.into(), file))
}

/// Removes a socket file that a server left behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is not a socket"));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

/// The file of a Unix socket that this process listens on.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        let there = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: there.dev(), inode: there.ino() })
    }

    /// Removes the file, unless another has taken its place.
    pub(super) fn remove(self) {
        let is_ours = |there: fs::Metadata| (there.dev(), there.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(is_ours)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, "the socket file of the verification listener could not be removed");
        }
    }
}
