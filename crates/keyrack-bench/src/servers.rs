//! What is measured beside what: servers as processes, with the requests each is asked.

pub(crate) mod nginx;
pub(crate) mod own;
pub(crate) mod peers;
pub(crate) mod postgres;
pub(crate) mod product;

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::Outcome;
use crate::child::{NOBODY, Running};
use crate::load::{Address, Requests};

/// The longest that a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A server that answers, and what it is asked.
#[derive(Debug)]
pub(crate) struct Server {
    /// What it is called in the tables.
    pub(crate) name: &'static str,
    /// Where it listens.
    pub(crate) address: Address,
    /// What it is asked.
    pub(crate) requests: Rc<Requests>,
    /// The status that every reply has to have.
    pub(crate) status: u16,
    /// The processes it is made of; shared by the doors of one product.
    pub(crate) processes: Rc<Vec<Running>>,
}

impl Server {
    /// A server made of some processes, once it gives the right answer to the first request.
    ///
    /// # Errors
    /// If one of them ends before, or it does not answer in time, or wrongly.
    pub(crate) fn ready(
        name: &'static str,
        address: Address,
        requests: Rc<Requests>,
        status: u16,
        mut processes: Vec<Running>,
    ) -> Outcome<Self> {
        wait_until_it_listens(name, &address, &mut processes)?;
        let server = Self { name, address, requests, status, processes: Rc::new(processes) };
        server.expect(server.requests.at(0), status)?;
        Ok(server)
    }

    /// Asks once.
    ///
    /// # Errors
    /// If the reply has another status.
    pub(crate) fn expect(&self, request: &[u8], status: u16) -> Outcome<()> {
        let seen = status_of(&self.address, request)?;
        if seen == status { Ok(()) } else { Err(format!("{} answered {seen}, not {status}", self.name).into()) }
    }

    /// The numbers of its processes.
    pub(crate) fn ids(&self) -> Vec<Pid> {
        self.processes.iter().map(Running::id).collect()
    }
}

/// The headers that nginx's `auth_request` brings along: the same ones for every server, so that each has as much to
/// read.
pub(crate) fn request(path: &str, bearer: &str, method: &str, uri: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: auth\r\nAuthorization: Bearer {bearer}\r\nX-Original-Method: {method}\r\n\
         X-Original-URI: {uri}\r\nX-Forwarded-For: 198.51.100.7\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"
    )
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A command line as words.
pub(crate) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

/// Waits until somebody listens at an address.
///
/// # Errors
/// If one of the processes ends before, or it takes too long.
pub(crate) fn wait_until_it_listens(name: &str, address: &Address, processes: &mut [Running]) -> Outcome<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while !accepts(address) {
        for process in &mut *processes {
            if process.has_ended()? || Instant::now() > deadline {
                return Err(format!("{name} did not start: see its log in {}", Place::LOGS).into());
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn accepts(address: &Address) -> bool {
    match address {
        Address::Tcp(address) => TcpStream::connect(address).is_ok(),
        Address::Unix(path) => UnixStream::connect(path).is_ok(),
    }
}

/// The status of the reply to one request on a connection of its own.
fn status_of(address: &Address, request: &[u8]) -> Outcome<u16> {
    let mut first = [0; 12];
    match address {
        Address::Tcp(address) => {
            let mut stream = TcpStream::connect(address)?;
            stream.write_all(request)?;
            stream.read_exact(&mut first)?;
        }
        Address::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.write_all(request)?;
            stream.read_exact(&mut first)?;
        }
    }
    Ok(std::str::from_utf8(&first)?.split(' ').nth(1).ok_or("no status")?.parse()?)
}

/// A directory that is thrown away at the end, below the system's own for such things so that `nobody` can reach it.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    /// Where servers log; kept, because it tells why one did not start.
    pub(crate) const LOGS: &str = "target/bench/logs";

    /// An empty directory.
    pub(crate) fn new() -> Outcome<Self> {
        fs::create_dir_all(Self::LOGS)?;
        let root = std::env::temp_dir().join(format!("keyrack-bench-{}", std::process::id()));
        fs::create_dir(&root)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        Ok(Self { root })
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// A directory in it.
    pub(crate) fn directory(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// A directory in it that belongs to `nobody` where we are root.
    pub(crate) fn directory_of_nobody(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.directory(name)?;
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY))?;
        }
        Ok(path)
    }

    /// The log of a server, emptied.
    pub(crate) fn log(name: &str) -> Outcome<PathBuf> {
        let path = Path::new(Self::LOGS).join(name).with_extension("log");
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(path),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays behind is empty databases in a directory for such things.
        drop(fs::remove_dir_all(&self.root));
    }
}
