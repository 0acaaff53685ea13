//! A SELECT for each key: axum in front of PostgreSQL, both on the server's core.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use keyrack::{ApiKey, KeyDigest, KeyKind};
use tokio_postgres::{Client, NoTls};

use super::peers::KEYS;
use super::{Place, START_TIMEOUT, Server, free_port, request, words};
use crate::child::{RunAs, Running};
use crate::load::{Address, Requests};
use crate::random::Random;
use crate::{Outcome, PATH};

/// Its name in the tables.
pub(crate) const NAME: &str = "axum + PostgreSQL SELECT";

/// Makes a database with keys in it and starts the service in front of it.
///
/// # Errors
/// If one of the two does not start.
pub(crate) fn start(place: &Place) -> Outcome<Server> {
    let programs = programs()?;
    let data = place.directory_of_nobody("postgres")?;
    let log = Place::log("postgres")?;
    let mut init = vec![programs.join("initdb").into_os_string()];
    init.extend(words(["--no-sync", "--auth=trust", "--username=bench", "--encoding=UTF8", "--locale=C", "-D"]));
    init.push(data.clone().into_os_string());
    Running::start(&init, RunAs::Nobody, &log)?.finish()?;

    let port = free_port()?.port();
    let mut serve = vec![programs.join("postgres").into_os_string(), "-D".into(), data.into_os_string()];
    let port_setting = format!("port={port}");
    for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", port_setting.as_str()] {
        serve.extend(words(["-c", setting]));
    }
    let mut database = Running::start(&serve, RunAs::Nobody, &log)?;
    let url = format!("host=127.0.0.1 port={port} user=bench dbname=postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let keys = runtime.block_on(async { fill(&connect(&url, &mut database).await?).await })?;

    let address = free_port()?;
    let program = std::env::current_exe()?.into_os_string();
    let command = [program, "serve".into(), "postgres".into(), address.to_string().into(), url.into()];
    let service = Running::start(&command, RunAs::Ourselves, &Place::log("axum-postgres")?)?;
    ready(address, &keys, vec![service, database])
}

fn ready(address: SocketAddr, keys: &[ApiKey], processes: Vec<Running>) -> Outcome<Server> {
    let requests: Requests = keys.iter().map(|key| request(PATH, key.expose(), "GET", "/events/17")).collect();
    let server = Server::ready(NAME, Address::Tcp(address), Rc::new(requests), 200, processes)?;
    let stranger = ApiKey::generate(KeyKind::Secret, &[9; ApiKey::RANDOM_BYTES]);
    server.expect(request(PATH, stranger.expose(), "GET", "/events/17").as_bytes(), 401)?;
    Ok(server)
}

/// Where Debian keeps the newest PostgreSQL it has.
fn programs() -> Outcome<PathBuf> {
    let versions = fs::read_dir(Path::new("/usr/lib/postgresql"))?.collect::<Result<Vec<_>, _>>()?;
    let newest = versions.into_iter().map(|version| version.path()).max().ok_or("no PostgreSQL is installed")?;
    Ok(newest.join("bin"))
}

async fn connect(url: &str, database: &mut Running) -> Outcome<Client> {
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        match tokio_postgres::connect(url, NoTls).await {
            Ok((client, connection)) => {
                // Without its connection every statement fails, and that is reported.
                tokio::spawn(async move { drop(connection.await) });
                return Ok(client);
            }
            Err(error) if database.has_ended()? || Instant::now() > deadline => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

async fn fill(client: &Client) -> Outcome<Vec<ApiKey>> {
    client
        .batch_execute("CREATE TABLE api_keys (digest bytea PRIMARY KEY, id bigint NOT NULL, role text NOT NULL)")
        .await?;
    let insert = client.prepare("INSERT INTO api_keys (digest, id, role) VALUES ($1, $2, 'editor')").await?;
    let mut random = Random::seeded(3);
    let mut keys = Vec::new();
    for id in 1..=KEYS {
        let key = ApiKey::generate(KeyKind::Secret, &random.bytes());
        client.execute(&insert, &[&KeyDigest::of(&key).as_bytes().as_slice(), &id]).await?;
        keys.push(key);
    }
    client.batch_execute("VACUUM ANALYZE api_keys").await?;
    Ok(keys)
}
