//! Other ways to check a key, each doing nothing else. Their sources are in `bench/peers`; `./dev bench peers` installs
//! what they need into `target/bench`.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use super::{Place, Server, free_port, postgres, request, wait_until_it_listens, words};
use crate::child::{RunAs, Running};
use crate::load::Address;
use crate::{Outcome, PATH};

const BETTER_AUTH: &str = "better-auth, API key plugin, SQLite";
const BETTER_AUTH_TUNED: &str = "better-auth, tuned: write-ahead log";
const DRF: &str = "djangorestframework-api-key, SQLite";
const DRF_TUNED: &str = "djangorestframework-api-key, tuned: 4 threads";

/// The peers as their documentation leads to them, with how many times faster the nginx door is to be. What can be had
/// of them with more care stands beside them in the table.
pub(crate) const GOALS: [(&str, f64); 3] = [(BETTER_AUTH, 150.0), (DRF, 150.0), (postgres::NAME, 3.5)];

/// How many keys each of them holds.
pub(crate) const KEYS: i64 = 500;

/// Starts all of them.
///
/// # Errors
/// If one does not start, or lets a stranger in.
pub(crate) fn start(place: &Place) -> Outcome<Vec<Server>> {
    Ok(vec![
        postgres::start(place)?,
        better_auth(BETTER_AUTH, "better-auth", &[], place)?,
        better_auth(BETTER_AUTH_TUNED, "better-auth-tuned", &["tuned"], place)?,
        drf(DRF, "drf", &[], place)?,
        drf(DRF_TUNED, "drf-tuned", &["--worker-class", "gthread", "--threads", "4"], place)?,
    ])
}

fn better_auth(name: &'static str, label: &str, more: &[&str], place: &Place) -> Outcome<Server> {
    let address = free_port()?;
    let directory = place.directory(label)?;
    let keys = directory.join("keys");
    let mut command = words(["target/bench/better-auth/node_modules/.bin/node", "target/bench/better-auth/server.js"]);
    command.extend([address.port().to_string().into(), directory.join("database").into_os_string()]);
    command.extend([keys.clone().into_os_string(), KEYS.to_string().into()]);
    command.extend(words(more.iter().copied()));
    let process = Running::start(&command, RunAs::Ourselves, &Place::log(label)?)?;
    ready(name, Address::Tcp(address), &keys, process)
}

fn drf(name: &'static str, label: &str, more: &[&str], place: &Place) -> Outcome<Server> {
    let address = free_port()?;
    let directory = place.directory(label)?;
    let (keys, log) = (directory.join("keys"), Place::log(label)?);
    let database = format!("DATABASE={}", directory.join("database").display());
    let environment = ["env", "PYTHONDONTWRITEBYTECODE=1", database.as_str()];

    let mut init = words(environment);
    init.extend(words(["target/bench/drf/bin/python", "bench/peers/drf/peer.py"]));
    init.extend([keys.clone().into_os_string(), KEYS.to_string().into()]);
    Running::start(&init, RunAs::Ourselves, &log)?.finish()?;

    let mut serve = words(environment);
    let bind = address.to_string();
    serve.extend(words(["target/bench/drf/bin/python", "-m", "gunicorn", "--workers", "1", "--bind", bind.as_str()]));
    serve.extend(words(["--no-control-socket", "--chdir", "bench/peers/drf", "peer:application"]));
    serve.extend(words(more.iter().copied()));
    ready(name, Address::Tcp(address), &keys, Running::start(&serve, RunAs::Ourselves, &log)?)
}

/// Asks with the keys that the peer wrote down before it listened, and makes sure that it refuses others.
fn ready(name: &'static str, address: Address, keys: &Path, process: Running) -> Outcome<Server> {
    let mut processes = vec![process];
    wait_until_it_listens(name, &address, &mut processes)?;
    let keys = fs::read_to_string(keys)?;
    let requests = keys.lines().map(|key| request(PATH, key, "GET", "/events/17")).collect();
    let server = Server::ready(name, address, Rc::new(requests), 200, processes)?;
    server.expect(request(PATH, "no.key", "GET", "/events/17").as_bytes(), 401)?;
    Ok(server)
}
