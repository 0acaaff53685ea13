//! A real gateway with its shipped configuration, between a client that says what it likes and an application that
//! writes down what it gets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::free_port;

/// How long a client waits for an answer, and for a gateway to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// A file of the directory `gateways`.
pub(super) fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../gateways").join(file)
}

/// Fails, with what to do, where the gateway is not installed.
pub(super) fn must_be_here(gateway: &str) {
    let private = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/gateways/bin").join(gateway);
    let is_here = match gateway {
        "nginx" | "haproxy" => {
            Command::new(gateway).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        }
        _ => private.exists(),
    };
    assert!(is_here, "{gateway} is missing: `./dev test` installs it");
}

/// An application that answers 200 to everything.
pub(super) struct Application {
    pub(super) port: u16,
    heads: Receiver<String>,
}

impl Application {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, heads) = channel();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut head = Vec::new();
                let mut piece = [0; 4096];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(read @ 1..) => head.extend_from_slice(&piece[..read]),
                        Ok(0) | Err(_) => break,
                    }
                }
                if head.windows(4).any(|end| end == b"100-") {
                    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok();
                }
                // A connection that is closed with something unread is reset.
                while head.windows(21).any(|line| line.eq_ignore_ascii_case(b"\r\ncontent-length: 4\r\n"))
                    && !head.ends_with(b"body")
                {
                    match stream.read(&mut piece) {
                        Ok(read @ 1..) => head.extend_from_slice(&piece[..read]),
                        Ok(0) | Err(_) => break,
                    }
                }
                if !head.is_empty() {
                    sender.send(String::from_utf8_lossy(&head).into_owned()).ok();
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nsure").ok();
                }
            }
        });
        Self { port, heads }
    }

    /// The heads of all requests that arrived since the last time.
    pub(super) fn got(&self) -> Vec<String> {
        self.heads.try_iter().collect()
    }
}

/// A running gateway; killed when dropped.
pub(super) struct Gateway {
    child: Child,
    port: u16,
    files: tempfile::TempDir,
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
}

impl Answer {
    /// The value of a field, if it came once.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        only(&self.head, name)
    }
}

/// The value of the one field of a name in a head.
pub(super) fn only<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut values = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    values.next().filter(|_| values.next().is_none())
}

impl Gateway {
    /// Starts a gateway, and waits until it asks the doors.
    pub(super) fn start(name: &str, doors: u16, application: u16) -> Self {
        Self::start_with(&shipped("run"), tempfile::tempdir().unwrap(), (name, doors, application))
    }

    /// Starts a gateway whose shipped configuration was changed.
    pub(super) fn changed(name: &str, change: impl Fn(&str) -> String, doors: u16, application: u16) -> Self {
        let files = tempfile::tempdir().unwrap();
        // The script looks for its files beside itself, and for programs in the directory above.
        let own = files.path().join("own/gateways");
        std::fs::create_dir_all(own.join(name)).unwrap();
        std::os::unix::fs::symlink(shipped("../target").canonicalize().unwrap(), own.join("../target")).unwrap();
        std::fs::copy(shipped("run"), own.join("run")).unwrap();
        for file in std::fs::read_dir(shipped(name)).unwrap() {
            let file = file.unwrap();
            let text = std::fs::read_to_string(file.path()).unwrap();
            let changed = change(&text);
            assert_ne!(text, changed, "{file:?}");
            std::fs::write(own.join(name).join(file.file_name()), changed).unwrap();
        }
        Self::start_with(&own.join("run"), files, (name, doors, application))
    }

    fn start_with(run: &Path, files: tempfile::TempDir, (name, doors, application): (&str, u16, u16)) -> Self {
        must_be_here(name);
        let port = free_port();
        let log = std::fs::File::create(files.path().join("log")).unwrap();
        let child = Command::new(run)
            .arg(name)
            .arg(files.path())
            .args([doors, application, port].map(|port| port.to_string()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut gateway = Self { child, port, files };
        let since = Instant::now();
        loop {
            let answer = gateway.send("GET /ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", PATIENCE);
            if answer.is_some_and(|answer| answer.status == 401) {
                return gateway;
            }
            let ended = gateway.child.try_wait().unwrap();
            if ended.is_some() || since.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(gateway.files.path().join("log")).unwrap();
                panic!("{name} does not ask the doors: {log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends bytes and reads until the gateway ends the connection. `None`: nothing came back in time.
    pub(super) fn send(&self, request: &str, patience: Duration) -> Option<Answer> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("{error}"),
        }
        let text = String::from_utf8_lossy(&answer);
        let mut heads = text.split("\r\n\r\n").skip_while(|head| head.starts_with("HTTP/1.1 100 "));
        let (head, Some(_)) = (heads.next()?, heads.next()) else { return None };
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, head: head.to_owned() })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
