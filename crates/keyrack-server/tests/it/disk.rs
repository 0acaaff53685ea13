//! Faults of a disk under the real binary: no room left, no writing, and writes that are never made durable.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyrack_server::store::BALLAST_BYTES;
use serde_json::{Value, json};

use crate::cluster::proxy::Proxy;
use crate::database;
use crate::server::{KEYRACK, Reply, Server, plenty_of_calls};
use crate::strace::Tracer;

const KEYS: &str = "/api/client/keys";
/// How long the service may take to notice that its disk is well again.
const RECOVERY: Duration = Duration::from_secs(10);

/// A small file system of its own, seen only by the processes that are started on it.
struct Disk {
    /// Keeps the file system alive; it ends with its standard input, whatever becomes of the test.
    holder: Child,
    mount_point: tempfile::TempDir,
}

impl Disk {
    fn of_mebibytes(size: u32) -> Self {
        let mount_point = tempfile::tempdir().unwrap();
        let mut unshare = Command::new("unshare");
        if !is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        let script = format!("mount -t tmpfs -o size={size}m tmpfs \"$0\" && echo mounted && exec cat");
        unshare.args(["--mount", "sh", "-c", &script]).arg(mount_point.path());
        let mut holder = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux is installed");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "a private mount takes root, or user namespaces for everybody");
        Self { holder, mount_point }
    }

    /// A command that runs on this disk, under its own process id.
    fn command(&self, program: &str) -> Command {
        let mut nsenter = Command::new("nsenter");
        nsenter.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        if !is_root() {
            nsenter.args(["--user", "--preserve-credentials"]);
        }
        nsenter.args(["--mount", "--target", &self.holder.id().to_string(), program]);
        nsenter
    }

    fn keyrack(&self, arguments: &[&str]) -> Command {
        let mut keyrack = self.command(KEYRACK);
        keyrack.envs(plenty_of_calls()).arg("--data-dir").arg(self.mount_point.path().join("data"));
        keyrack
            .args(["--listen", "127.0.0.1:0", "--verify-listen", "127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::null());
        keyrack
    }

    fn init(&self) -> String {
        let output = self.keyrack(&["init", "--json"]).output().unwrap();
        let keys: Value = serde_json::from_slice(&output.stdout).unwrap();
        keys["project_key"].as_str().unwrap().to_owned()
    }

    fn serve(&self) -> Server {
        Server::try_start(&mut self.keyrack(&["serve"])).expect("the server did not start")
    }

    fn audit_is_whole(&self) -> bool {
        self.keyrack(&["audit", "verify"]).stdout(Stdio::null()).status().unwrap().success()
    }

    /// A file of the disk, as this process reaches it.
    fn file(&self, name: &str) -> PathBuf {
        let inside = self.mount_point.path().strip_prefix("/").unwrap();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside).join(name)
    }

    /// Takes whatever room is left, to the last page.
    fn fill(&self) {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.file("filler")).unwrap();
        let chunk = vec![b'x'; 4096];
        while filler.write_all(&chunk).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.file("filler")).unwrap();
    }

    fn ballast_bytes(&self) -> u64 {
        fs::metadata(self.file("data/ballast")).map_or(0, |meta| meta.len())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// System calls of a server fail, from now until this is dropped.
fn inject(disk: &Disk, server: &Server, calls: &str, error: &str) -> Tracer {
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}"));
    Tracer::attach(disk.command("strace"), server.child.id(), "/dev/null", &["-e", &trace, "-e", &inject])
}

fn create(server: &Server, by: &str, name: &str, role: &str) -> Reply {
    server.send("POST", KEYS, by, Some(&json!({"name": name, "role": role})), &[]).unwrap()
}

/// A key that the service acknowledged: its number and value.
fn created(server: &Server, by: &str, name: &str, role: &str) -> (i64, String) {
    let reply = create(server, by, name, role);
    assert_eq!(reply.status, 200, "{}", reply.text);
    (reply.json()["id"].as_i64().unwrap(), reply.json()["value"].as_str().unwrap().to_owned())
}

fn patch(server: &Server, by: &str, id: i64, body: &Value) -> Reply {
    server.send("PATCH", &format!("{KEYS}/{id}"), by, Some(body), &[]).unwrap()
}

fn revoke(server: &Server, by: &str, id: i64) -> Reply {
    server.send("DELETE", &format!("{KEYS}/{id}"), by, None, &[]).unwrap()
}

fn read(server: &Server, by: &str, id: i64) -> Reply {
    server.send("GET", &format!("{KEYS}/{id}"), by, None, &[]).unwrap()
}

/// Every live key of the project as the store has it.
fn listed(server: &Server, by: &str) -> Vec<Value> {
    let reply = server.send("GET", &format!("{KEYS}?limit=-1&sort=id"), by, None, &[]).unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["results"].as_array().unwrap().clone()
}

/// What the index makes of a key: 401 unknown, 403 known but no admin, 200 admin.
fn standing(server: &Server, value: &str) -> u16 {
    server.send("GET", &format!("{KEYS}?limit=1"), value, None, &[]).unwrap().status
}

fn assert_unavailable(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(reply.json()["code"], "service_unavailable");
}

/// Asks for a key until one is made.
fn until_creates_work(server: &Server, by: &str) {
    let deadline = Instant::now() + RECOVERY;
    while create(server, by, "after the fault", "support").status != 200 {
        assert!(Instant::now() < deadline, "the service did not recover");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Creates and patches until neither finds room any more: the log may have some left when the disk has none. Gives the
/// keys that were made, and how often the patch was acknowledged.
fn exhaust(disk: &Disk, server: &Server, by: &str, patched: i64) -> (Vec<(i64, String)>, u32) {
    let (mut made, mut patches, mut refused) = (Vec::new(), 0, 0);
    while refused < 10 {
        // What a refused change gave back is taken at once, as a log that fills the disk would.
        disk.fill();
        refused += 1;
        let reply = create(server, by, "while there is room", "support");
        if reply.status == 200 {
            refused = 0;
            let key = reply.json();
            made.push((key["id"].as_i64().unwrap(), key["value"].as_str().unwrap().to_owned()));
        } else {
            assert_unavailable(&reply);
        }
        let reply = patch(server, by, patched, &json!({"name": (patches + 1).to_string()}));
        if reply.status == 200 {
            refused = 0;
            patches += 1;
        } else {
            assert_unavailable(&reply);
        }
        assert!(patches < 2_000, "the disk is full, and nothing is refused");
    }
    (made, patches)
}

#[test]
fn on_a_full_disk_changes_are_refused_and_keys_still_pass() {
    let disk = Disk::of_mebibytes(16);
    let admin = disk.init();
    let server = disk.serve();
    let patched = created(&server, &admin, "0", "support");

    let (made, patches) = exhaust(&disk, &server, &admin, patched.0);
    let full = listed(&server, &admin);
    assert_eq!(full.len(), 1 + 1 + made.len(), "what was refused left something behind");
    assert_eq!(read(&server, &admin, patched.0).json()["name"], patches.to_string());
    assert!(made.iter().chain([&patched]).all(|(_, value)| standing(&server, value) == 403));

    disk.make_room();
    until_creates_work(&server, &admin);
    assert_eq!(disk.ballast_bytes(), BALLAST_BYTES as u64);
    assert!(disk.audit_is_whole());
    let recovered = listed(&server, &admin);
    assert!(server.stop().success());

    let server = disk.serve();
    assert_eq!(listed(&server, &admin), recovered);
    assert!(made.iter().all(|(_, value)| standing(&server, value) == 403));
    assert!(disk.audit_is_whole());
}

/// A hundred keys, one of them an admin's, are revoked while there is no room but the ballast.
fn a_hundred_revocations_succeed(description: &str) {
    let disk = Disk::of_mebibytes(24);
    let admin = disk.init();
    let server = disk.serve();
    let described = |role: &str| {
        let body = json!({"name": "leaked", "role": role, "description": description});
        let reply = server.send("POST", KEYS, &admin, Some(&body), &[]).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        (reply.json()["id"].as_i64().unwrap(), reply.json()["value"].as_str().unwrap().to_owned())
    };
    let leaked: Vec<_> = ["admin"].into_iter().chain(["support"; 99]).map(described).collect();
    // Started anew, the server has no room left over in its log.
    assert!(server.stop().success());
    let server = disk.serve();
    assert_eq!(standing(&server, &leaked[0].1), 200);

    disk.fill();
    let refused: Vec<_> =
        leaked.iter().map(|(id, _)| revoke(&server, &admin, *id)).filter(|reply| reply.status != 200).collect();
    assert!(refused.is_empty(), "{} of 100 revocations were refused: {:?}", refused.len(), refused[0]);
    let dead = |server: &Server| leaked.iter().all(|(_, value)| standing(server, value) == 401);
    assert!(dead(&server));
    assert!(leaked.iter().all(|(id, _)| read(&server, &admin, *id).status == 404));
    assert_eq!(disk.ballast_bytes(), 0, "revoking took no ballast: the disk was not full");

    disk.make_room();
    until_creates_work(&server, &admin);
    assert_eq!(disk.ballast_bytes(), BALLAST_BYTES as u64);
    drop(server);
    assert!(dead(&disk.serve()), "after a crash, a revoked key is alive");
    assert!(disk.audit_is_whole());
}

#[test]
fn on_a_full_disk_a_hundred_revocations_succeed() {
    a_hundred_revocations_succeed("");
}

#[test]
fn on_a_full_disk_a_hundred_revocations_of_keys_of_the_largest_size_succeed() {
    // A control character takes the most room: six bytes of JSON in the audit entry, before and after.
    a_hundred_revocations_succeed(&"\u{1}".repeat(2_048));
}

#[test]
fn a_server_starts_and_revokes_on_a_full_disk() {
    let disk = Disk::of_mebibytes(16);
    let admin = disk.init();
    let server = disk.serve();
    let leaked = created(&server, &admin, "leaked", "admin");
    assert!(server.stop().success());

    disk.fill();
    let server = disk.serve();
    assert_eq!(standing(&server, &leaked.1), 200);
    let reply = revoke(&server, &admin, leaked.0);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(standing(&server, &leaked.1), 401);
    drop(server);
    assert_eq!(standing(&disk.serve(), &leaked.1), 401);
}

/// What must not change any more once a fault is over: the store's keys, and what the index makes of those we know.
fn state(server: &Server, admin: &str, known: &[&(i64, String)]) -> (Vec<Value>, Vec<u16>) {
    let keys = listed(server, admin);
    for (id, value) in known {
        let of_store = match keys.iter().find(|key| key["id"] == *id) {
            None => 401,
            Some(key) if key["role"] == "admin" => 200,
            Some(_) => 403,
        };
        assert_eq!(standing(server, value), of_store, "index and store do not agree on key {id}");
    }
    (keys, known.iter().map(|(_, value)| standing(server, value)).collect())
}

/// Lets system calls fail under a server that is asked for every kind of change, and checks that nothing is lost or
/// half done. An unacknowledged change may have been made or not, but that is settled when the next one succeeds.
fn survives(calls: &str, error: &str) {
    let disk = Disk::of_mebibytes(64);
    let admin = disk.init();
    let mut server = disk.serve();
    let quiet = created(&server, &admin, "quiet", "support");
    let widened = created(&server, &admin, "widened", "support");
    let leaked = created(&server, &admin, "leaked", "admin");
    let before = listed(&server, &admin);

    let fault = inject(&disk, &server, calls, error);
    for _ in 0..3 {
        assert_unavailable(&create(&server, &admin, "unacknowledged", "support"));
        assert_unavailable(&patch(&server, &admin, widened.0, &json!({"role": "admin"})));
        assert_unavailable(&revoke(&server, &admin, leaked.0));
    }
    assert_eq!(standing(&server, &quiet.1), 403);
    assert_eq!(standing(&server, "sk_0000000000000000000000000095T2AG"), 401);
    assert_eq!(read(&server, &admin, quiet.0).status, 200);
    assert!(listed(&server, &admin).len() >= before.len());
    drop(fault);

    until_creates_work(&server, &admin);
    let known = [&quiet, &widened, &leaked];
    let settled = state(&server, &admin, &known);
    assert!(settled.0.contains(&before[before.len() - 3]) && settled.1[0] == 403, "what was acknowledged is lost");
    assert!(disk.audit_is_whole());

    server.child.kill().unwrap();
    drop(server);
    let server = disk.serve();
    assert_eq!(state(&server, &admin, &known), settled, "an outcome changed after it was settled");
    assert!(disk.audit_is_whole());
}

#[test]
fn a_disk_that_turns_read_only_refuses_changes_and_loses_nothing() {
    survives("pwrite64,ftruncate,fallocate", "EROFS");
}

#[test]
fn a_disk_that_fails_to_make_changes_durable_loses_nothing() {
    survives("fsync,fdatasync", "EIO");
}

#[test]
fn a_change_that_a_reader_did_not_find_does_not_appear_after_a_crash() {
    let disk = Disk::of_mebibytes(64);
    let admin = disk.init();
    let mut server = disk.serve();
    let key = created(&server, &admin, "widened", "support");

    let fault = inject(&disk, &server, "fsync,fdatasync", "EIO");
    assert_unavailable(&patch(&server, &admin, key.0, &json!({"role": "admin"})));
    drop(fault);
    // The reply says: read the key to see whether the change was made. So what is read has to stay true.
    std::thread::sleep(Duration::from_secs(3));
    let told = state(&server, &admin, &[&key]);
    server.child.kill().unwrap();
    drop(server);
    assert_eq!(state(&disk.serve(), &admin, &[&key]), told);
}

#[test]
fn on_a_full_disk_a_revocation_without_the_database_is_kept_all_the_same() {
    let schema = tokio::runtime::Runtime::new().unwrap().block_on(database::new_schema());
    let (postgres, rest) = database::parts(&schema);
    let proxy = Proxy::to(postgres);
    let disk = Disk::of_mebibytes(16);
    let url = format!("postgres://keyrack@{}{rest}", proxy.address);
    let serve = || Server::try_start(&mut disk.keyrack(&["--database-url", &url, "serve"])).unwrap();
    let mut server = serve();
    let admin = server.greeting.split_whitespace().find(|word| word.starts_with("sk_")).unwrap().to_owned();
    let leaked: Vec<_> = (0..30).map(|_| created(&server, &admin, "leaked", "admin")).collect();

    disk.fill();
    proxy.cut();
    for (id, value) in &leaked {
        let revoked = revoke(&server, &admin, *id);
        assert_eq!((revoked.status, standing(&server, value)), (202, 401), "{}", revoked.text);
    }
    assert_eq!(disk.ballast_bytes(), 0, "it took no ballast: the disk was not full");
    server.child.kill().unwrap();
    drop(server);
    proxy.mend();
    disk.make_room();
    let server = serve();
    assert!(leaked.iter().all(|(_, value)| standing(&server, value) == 401));
}
