//! Several hosts in the URL of a database: which of them is used, and what becomes of a node when another one takes over.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::cluster::proxy::Proxy;
use crate::database::{new_schema, parts};
use crate::server::{Server, keyrack};

const KEYS: &str = "/api/client/keys";

/// A primary and a hot standby of it.
struct Pair {
    dir: tempfile::TempDir,
    primary: String,
    standby: String,
}

impl Pair {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let primary = postgres("start", &dir.path().join("primary"));
        let standby = dir.path().join("standby");
        std::fs::create_dir(&standby).unwrap();
        std::fs::set_permissions(&standby, std::fs::Permissions::from_mode(0o777)).unwrap();
        let bin = Command::new("sh").args(["-c", "ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1"]).output();
        let program = format!("{}/pg_basebackup", String::from_utf8(bin.unwrap().stdout).unwrap().trim());
        let mut backup = Command::new(&program);
        if rustix::process::geteuid().is_root() {
            backup = Command::new("setpriv");
            backup.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", &program]);
        }
        let (host, port) = address(&primary).rsplit_once(':').unwrap();
        backup.args(["-h", host, "-p", port, "-U", "keyrack", "-c", "fast", "-X", "stream", "-R", "-D"]);
        let output = backup.arg(standby.join("data")).current_dir("/").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let standby = postgres("start", &standby);
        Self { dir, primary, standby }
    }

    /// The primary is gone, as in a power cut.
    fn kill_primary(&self) {
        let file = std::fs::read_to_string(self.dir.path().join("primary/data/postmaster.pid")).unwrap();
        let pid = file.lines().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }

    /// The standby becomes a primary of its own, which commits nothing: as one that was replaced, and that nobody stopped.
    fn make_two_of_them(&self) {
        assert_eq!(self.ask_standby("SELECT CAST(pg_promote() AS TEXT)"), "true");
        let (runtime, standby) = (tokio::runtime::Runtime::new().unwrap(), &self.standby);
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(standby, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            for statement in ["ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"] {
                client.batch_execute(statement).await.unwrap();
            }
        });
    }

    /// What the standby answers.
    fn ask_standby(&self, statement: &str) -> String {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.standby, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.query_one(statement, &[]).await.unwrap().get(0)
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        postgres("stop", &self.dir.path().join("standby"));
        // Of one that was killed its file is left.
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nodes/postgres");
        let mut stop = Command::new(script);
        stop.arg("stop").arg(self.dir.path().join("primary")).stdout(Stdio::null()).stderr(Stdio::null());
        stop.status().unwrap();
    }
}

fn postgres(what: &str, dir: &Path) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../nodes/postgres");
    let output = Command::new(script).arg(what).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// `HOST:PORT` of a URL.
fn address(url: &str) -> &str {
    url.split_once('@').unwrap().1.split_once('/').unwrap().0
}

fn serve(data: &Path, url: &str) -> Server {
    let mut command = keyrack(data);
    command.args(["--database-url", url, "serve"]);
    Server::try_start(command.stderr(Stdio::null())).expect("the node did not start")
}

fn key(server: &Server, prefix: &str) -> String {
    server.greeting.split_whitespace().find(|word| word.starts_with(prefix)).unwrap().to_owned()
}

#[test]
fn a_node_uses_the_primary_wherever_it_is_in_the_list_and_follows_it_to_another_host() {
    let pair = Pair::start();
    // The standby first.
    let url = format!("postgres://keyrack@{},{}/postgres", address(&pair.standby), address(&pair.primary));
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &url);
    let (admin, operator) = (key(&server, "sk_"), key(&server, "op_"));
    let create = |name: &str| server.send("POST", KEYS, &admin, Some(&json!({"name": name})), &[]).unwrap();
    let before = create("before").json();
    let keys = || pair.ask_standby("SELECT CAST(COUNT(*) AS TEXT) FROM api_keys WHERE name = 'before'");
    let deadline = Instant::now() + Duration::from_secs(10);
    while keys() != "1" {
        assert!(Instant::now() < deadline, "the standby does not follow");
        thread::sleep(Duration::from_millis(50));
    }

    pair.kill_primary();
    assert_eq!(pair.ask_standby("SELECT CAST(pg_promote() AS TEXT)"), "true");
    let promoted = Instant::now();
    while create("after").status != 200 {
        assert!(promoted.elapsed() < Duration::from_secs(15), "the node does not find the other host");
        thread::sleep(Duration::from_millis(100));
    }
    let lease = || {
        let nodes = server.send("GET", "/api/operator/nodes", &operator, None, &[]).unwrap();
        nodes.json()["results"][0]["lease"].clone()
    };
    while lease() != "fresh" {
        assert!(promoted.elapsed() < Duration::from_secs(15), "{}", lease());
        thread::sleep(Duration::from_millis(100));
    }
    let revoked = server.send("DELETE", &format!("{KEYS}/{}", before["id"]), &admin, None, &[]).unwrap();
    assert_eq!((revoked.status, &revoked.json()["effective"]), (200, &json!("all")), "{}", revoked.text);
    let value = before["value"].as_str().unwrap();
    assert_eq!(server.send("GET", KEYS, value, None, &[]).unwrap().status, 401);
    // One that starts now finds it too, although the first host of the list is not there any more.
    assert!(server.stop().success());
    let list = format!("postgres://keyrack@{},{}/postgres", address(&pair.primary), address(&pair.standby));
    assert_eq!(serve(data.path(), &list).send("GET", KEYS, &admin, None, &[]).unwrap().status, 200);
}

/// It can be read, and knows less: what it does not have was made all the same.
#[test]
fn a_former_primary_that_nobody_stopped_is_not_believed() {
    let pair = Pair::start();
    let proxy = Proxy::to(address(&pair.primary).parse().unwrap());
    let url = format!("postgres://keyrack@{},{}/postgres", proxy.address, address(&pair.standby));
    let data = tempfile::tempdir().unwrap();
    let server = serve(data.path(), &url);
    let admin = key(&server, "sk_");
    let create = |name: &str| {
        let made = server.send("POST", KEYS, &admin, Some(&json!({"name": name, "role": "admin"})), &[]).unwrap();
        made.json()["value"].as_str().unwrap().to_owned()
    };
    create("before");
    let deadline = Instant::now() + Duration::from_secs(10);
    while pair.ask_standby("SELECT CAST(COUNT(*) AS TEXT) FROM api_keys WHERE name = 'before'") != "1" {
        assert!(Instant::now() < deadline, "the standby does not follow");
        thread::sleep(Duration::from_millis(50));
    }
    pair.make_two_of_them();
    let after = create("after");
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(data.path().join("root.key"), elsewhere.path().join("root.key")).unwrap();
    let other = serve(elsewhere.path(), &pair.primary);

    let door = server.greeting.lines().find_map(|line| line.strip_prefix("Verifying at ")).unwrap();
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let verify = || {
        let asked = agent.post(format!("{door}/v1/verify")).send(json!({"key": after}).to_string());
        asked.unwrap().status().as_u16()
    };
    // Longer than it takes to give the first host up, and to see what the second has.
    proxy.fall_silent();
    let silent = Instant::now();
    while silent.elapsed() < Duration::from_secs(12) {
        assert_eq!(verify(), 200, "after {:?}", silent.elapsed());
        thread::sleep(Duration::from_millis(50));
    }
    // A key that neither this node nor the former primary has heard of: whoever wants it dead must not be told that there is none.
    let made = other.send("POST", KEYS, &admin, Some(&json!({"name": "leaked"})), &[]).unwrap().json();
    let revoked = server.send("DELETE", &format!("{KEYS}/{}", made["id"]), &admin, None, &[]).unwrap();
    assert_eq!(revoked.status, 503, "{}", revoked.text);
    proxy.mend();
    let mended = Instant::now();
    drop(other);
    let create_again = || server.send("POST", KEYS, &admin, Some(&json!({"name": "again"})), &[]).unwrap().status;
    while create_again() != 200 {
        assert!(mended.elapsed() < Duration::from_secs(30), "it does not find its way back");
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(verify(), 200);
    assert_eq!(server.send("GET", KEYS, &after, None, &[]).unwrap().status, 200);
}

/// Hosts that take connections and never say a word; counts how many.
fn silent_hosts(hosts: usize, taken: &Arc<AtomicUsize>) -> String {
    let listen = |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken = Arc::clone(taken);
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                taken.fetch_add(1, Ordering::SeqCst);
                held.push(stream);
            }
        });
        address
    };
    (0..hosts).map(listen).collect::<Vec<_>>().join(",")
}

#[test]
fn hosts_that_say_nothing_do_not_keep_a_node_from_one_that_does() {
    let schema = tokio::runtime::Runtime::new().unwrap().block_on(new_schema());
    let (server, rest) = parts(&schema);
    let taken = Arc::new(AtomicUsize::new(0));
    let url = format!("postgres://keyrack@{},{server}{rest}", silent_hosts(5, &taken));
    let data = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let server = serve(data.path(), &url);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let admin = key(&server, "sk_");
    let tried = taken.load(Ordering::SeqCst);
    assert!(tried >= 5, "each was tried: {tried}");
    // More connections than there are yet.
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(server.send("GET", KEYS, &admin, None, &[]).unwrap().status, 200);
                }
            });
        }
    });
    assert_eq!(taken.load(Ordering::SeqCst), tried, "the host that was good is the first to be asked");
}
