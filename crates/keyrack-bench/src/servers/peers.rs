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
const DRF: &str = "djangorestframework-api-key, SQLite";

/// The peers, with how many times faster the nginx door is to be.
pub(crate) const GOALS: [(&str, f64); 3] = [(BETTER_AUTH, 150.0), (DRF, 150.0), (postgres::NAME, 3.5)];

/// How many keys each of them holds.
pub(crate) const KEYS: i64 = 500;

/// Starts all of them.
///
/// # Errors
/// If one does not start, or lets a stranger in.
pub(crate) fn start(place: &Place) -> Outcome<Vec<Server>> {
    Ok(vec![postgres::start(place)?, better_auth(place)?, drf(place)?])
}

fn better_auth(place: &Place) -> Outcome<Server> {
    let address = free_port()?;
    let directory = place.directory("better-auth")?;
    let keys = directory.join("keys");
    let mut command = words(["target/bench/better-auth/node_modules/.bin/node", "target/bench/better-auth/server.js"]);
    command.extend([address.port().to_string().into(), directory.join("database").into_os_string()]);
    command.extend([keys.clone().into_os_string(), KEYS.to_string().into()]);
    let process = Running::start(&command, RunAs::Ourselves, &Place::log("better-auth")?)?;
    ready(BETTER_AUTH, Address::Tcp(address), &keys, process)
}

fn drf(place: &Place) -> Outcome<Server> {
    let address = free_port()?;
    let directory = place.directory("drf")?;
    let (keys, log) = (directory.join("keys"), Place::log("drf")?);
    let database = format!("DATABASE={}", directory.join("database").display());
    let environment = ["env", "PYTHONDONTWRITEBYTECODE=1", database.as_str()];

    let mut init = words(environment);
    init.extend(words(["target/bench/drf/bin/python", "bench/peers/drf/peer.py"]));
    init.extend([keys.clone().into_os_string(), KEYS.to_string().into()]);
    Running::start(&init, RunAs::Ourselves, &log)?.finish()?;

    let mut serve = words(environment);
    let bind = address.to_string();
    serve.extend(words(["target/bench/drf/bin/python", "-m", "gunicorn", "--workers", "1", "--bind", bind.as_str()]));
    serve.extend(words(["--worker-class", "gthread", "--threads", "4", "--no-control-socket", "--chdir", "bench/peers/drf", "peer:application"]));
    ready(DRF, Address::Tcp(address), &keys, Running::start(&serve, RunAs::Ourselves, &log)?)
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
